"""The exceptions of this project. Above ``relay.net`` and ``relay.store`` there are only these.

OutgateError
├── ConfigError            the configuration cannot be used: path, what was expected
├── StartError             a service cannot start: what happened, and what to do
│   └── CertificateRefused ... or go on with a new certificate and key
├── StoreError             the store answered, and the answer was an error
│   └── StoreFull          ... because it is over its memory limit
├── StoreUnavailable       the store did not answer; ``executed`` says what is known
├── MemoryFull             this process holds as many octets of messages as it may
├── ArchiveUnavailable     the archive could not take a message, or could not be read
├── ArchiveDamaged         what the archive holds is not what was written
├── RecordsUnavailable     what the admin service has written down cannot be read or written
└── NetworkError           a connection could not be made or used
    ├── SourceUnusable     our own address could not be bound (blame: source)
    ├── HostUnreachable    the far side could not be reached (blame: host)
    ├── PeerClosed         the far side went away
    ├── PeerSilent         the far side took longer than the protocol allows
    └── TlsFailed          the handshake, or the verification of the peer, failed

``relay.net.resolver`` adds two of its own, NameNotFound and NameUnavailable; ``relay.dkim`` adds
Unproven.
"""

from collections.abc import Iterator


class OutgateError(Exception):
    """Base of every error that this project raises on purpose."""


class ConfigError(OutgateError):
    """The configuration cannot be used. ``problems`` holds one line for each thing wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class StartError(OutgateError):
    """A service cannot start; the text says what happened and what to do about it."""


class CertificateRefused(StartError):
    """Certificate and key cannot be used: which files, why, and what to do about it."""


class StoreError(OutgateError):
    """The store answered a command with an error."""


class StoreFull(StoreError):
    """The store refused a write because it is over its memory limit."""


class StoreUnavailable(OutgateError):
    """The store could not be asked, or did not answer.

    ``executed`` is False when the command certainly did not run (it was never sent), True when
    nobody knows: it was sent, and the reply did not arrive.
    """

    def __init__(self, text: str, *, executed: bool) -> None:
        super().__init__(text)
        self.executed = executed


class MemoryFull(OutgateError):
    """The process holds as many octets of messages as it may (``ingress.memory``)."""


class ArchiveUnavailable(OutgateError):
    """The archive could not take a message, or could not be read: where, and why.

    A message whose copy could not be kept is not accepted; its sender will try again.
    """


class ArchiveDamaged(OutgateError):
    """What the archive holds under a name is not what was written there, or no key of ours opens it."""


class RecordsUnavailable(OutgateError):
    """What the admin service has written down cannot be read or written, or not in time: why."""


class NetworkError(OutgateError):
    """A connection could not be made or used. ``__cause__`` has the operating system's words."""


class SourceUnusable(NetworkError):
    """Our own source address could not be bound; the far side has nothing to do with it."""


class HostUnreachable(NetworkError):
    """The far side refused the connection, or no answer came from it."""


class PeerClosed(NetworkError):
    """The far side closed or reset the connection."""


class PeerSilent(NetworkError):
    """The far side did not answer within the time the protocol gives it."""


class TlsFailed(NetworkError):
    """The TLS handshake failed, or the certificate is not one that we accept."""


def flatten(error: BaseException) -> Iterator[BaseException]:
    """Yield what went wrong, without the groups that nurseries put it into."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from flatten(inner)
    else:
        yield error
