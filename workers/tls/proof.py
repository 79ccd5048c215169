"""What the TLS of a session turned out to be: its certificates held against its guard."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from relay.net.stream import Stream
from workers.tls import dane
from workers.tls.chain import fingerprint, read_chain
from workers.tls.guard import Failing, Guard, TlsUntrusted
from workers.tls.pkix import Authorities


@dataclass(frozen=True, slots=True)
class Proof:
    """One session: what protects it, and who vouches for the other side; in clear: nothing.

    ``failing`` and ``text``: why nobody does, or why it is in clear.
    """

    protocol: str = ""  # TLS version and cipher
    verified: Literal["", "dane-ee", "dane-ta", "pkix"] = ""
    fingerprint: str = ""  # of the host's certificate, SHA-256
    failing: Failing = ""
    text: str = ""


NOTHING = Proof()


def prove(stream: Stream, guard: Guard, names: Sequence[str], authorities: Authorities) -> Proof:
    """Look at the certificates of a session whose handshake is done. Whether they suffice: see Guard."""
    assert stream.tls is not None
    chain = read_chain(stream.tls)
    now = dt.datetime.now(dt.UTC)
    mark = fingerprint(chain[0]) if chain else ""
    try:
        if not chain:
            raise TlsUntrusted("certificate-not-trusted", "the certificate cannot be read")
        if guard.tlsa:
            return Proof(stream.protocol, dane.verify(chain, guard.tlsa, names, now), mark)
        authorities.verify(chain, names, now)
        return Proof(stream.protocol, "pkix", mark)
    except TlsUntrusted as error:
        return Proof(stream.protocol, "", mark, error.failing, str(error))
