"""What a reply or a broken connection means: one pure function for each, value in, Outcome out.

Two questions are answered apart. *Is it over?* The first digit of the reply code decides (RFC
5321 §4.2.1), and only a 5xx that is about the message or its recipient ends anything: a session
that is refused, a failed handshake, silence and nonsense are all worth another attempt. *Whose
is it, and what about it?* The rules of ``workers.replies`` read that from what the host says. Where it
says nothing that they know, whose it is follows from the enhanced status code's subject (RFC 3463 §3),
and without one from the command that was answered. It decides what is tried differently next time, and
is allowed to be wrong now and then.
"""

import re
from typing import NamedTuple, assert_never

from relay.errors import (
    HostUnreachable,
    NetworkError,
    PeerClosed,
    PeerSilent,
    SourceUnusable,
    TlsFailed,
)
from relay.model import Blame, Disposition, Outcome
from workers.replies.classifier import read_reply
from workers.replies.label import Action, Label

_MAX_TEXT = 1024
# Before MAIL nothing has been said about a message, so no answer can be about one.
_OPENING = frozenset({"CONNECT", "EHLO", "HELO", "STARTTLS"})
# A 2xx to any other command delivers nothing.
_FINAL = frozenset({".", "BDAT"})


class _Rule(NamedTuple):
    """One line of the table below. What is left empty always fits."""

    blame: Blame
    commands: str = ""  # separated by blanks
    code: str = ""  # how the code begins
    status: str = ""  # how subject and detail of the status match, without the class
    text: str = ""  # what the text contains

    def fits(self, command: str, code: int, status: str, text: str) -> bool:
        return (
            (not self.commands or command in self.commands.split())
            and str(code).startswith(self.code)
            and (not self.status or re.fullmatch(self.status, status) is not None)
            and (not self.text or re.search(self.text, text, re.IGNORECASE) is not None)
        )


_CONTENT = "DATA BDAT ."
# The peer names our address, or a list of addresses: nothing of the sender's.
_OUR_ADDRESS = (
    r"block ?list|black ?list|\bd?nsbl\b|\brbl\b|spamhaus|client host|\byour (ip|host|server)\b"
    r"|\bip (address|reputation)\b|reverse dns|\bptr\b"
)

# The first that fits decides.
_RULES = (
    _Rule(Blame.SESSION, code="421"),  # RFC 5321 §3.8: closing, whatever the command was
    _Rule(Blame.SESSION, code="503"),
    _Rule(Blame.HOST, "CONNECT EHLO HELO STARTTLS"),
    # RFC 7372 §3: 5.7.25 is our reverse DNS; the rest is DKIM, SPF and what joins them.
    _Rule(Blame.SOURCE, status=r"7\.25"),
    _Rule(Blame.TENANT, status=r"7\.(2[0-4]|26|27)"),  # 5.7.27: RFC 7505 §4.2
    _Rule(Blame.SOURCE, status=r"(7\..*)?", text=_OUR_ADDRESS),
    # RFC 3463 §3.2: addresses; 7 and 8 are about the sender's.
    _Rule(Blame.TENANT, status=r"1\.[78]"),
    _Rule(Blame.RECIPIENT, status=r"1\..*"),
    # §3.3: mailboxes; 3 is a message too long for this one.
    _Rule(Blame.MESSAGE, status=r"2\.3"),
    _Rule(Blame.RECIPIENT, status=r"2\..*"),
    # §3.4: the mail system; 4 is a message too long for all of it.
    _Rule(Blame.MESSAGE, status=r"3\.4"),
    _Rule(Blame.HOST, status=r"3\..*"),
    # §3.5: network and routing; 2 is a bad connection.
    _Rule(Blame.SESSION, status=r"4\.2"),
    _Rule(Blame.HOST, status=r"4\..*"),
    # §3.6: the dialogue. §3.7: the content, which is the same at every host.
    _Rule(Blame.SESSION, status=r"5\..*"),
    _Rule(Blame.MESSAGE, status=r"6\..*"),
    # No status, or policy (§3.8), which is whatever the command was about.
    _Rule(Blame.RECIPIENT, "RCPT"),
    _Rule(Blame.MESSAGE, code="552"),
    _Rule(Blame.HOST, code="4"),
    _Rule(Blame.TENANT, "MAIL"),
    _Rule(Blame.MESSAGE, _CONTENT),
)


def classify_reply(
    command: str,
    code: int,
    status: str,
    text: str,
    *,
    temporary: bool = False,
    provider: str = "",
) -> Outcome:
    """Return what a reply to ``command`` means for a recipient.

    ``command``: "CONNECT", "EHLO", "HELO", "STARTTLS", "MAIL", "RCPT", "DATA", "BDAT" or ".".
    ``temporary``: whoever led the dialogue knows that a 5xx is not meant as one (RFC 5321
    §4.5.3.1.10: 552 for too many recipients). ``provider``: the site's name.
    """
    said = text[:_MAX_TEXT]
    if code // 100 == 2 and command in _FINAL:
        return Outcome(Disposition.DELIVERED, None, command, code, status, said)
    if code // 100 not in (4, 5):  # nonsense
        return Outcome(Disposition.DEFERRED, Blame.SESSION, command, code, status, said)
    over = code // 100 == 5 and not temporary and _is_about_mail(command, code)
    reading = read_reply(code, status, text, provider=provider, command=command)
    blame, action = reading.blame, reading.action
    if reading.label is Label.UNKNOWN:
        blame = _find_blame(command, code, status.partition(".")[2], text)
    if action is Action.BOUNCE and not over:
        action = Action.RETRY
    return Outcome(
        Disposition.BOUNCED if over else Disposition.DEFERRED,
        blame,
        command,
        code,
        status,
        said,
        reading.label.value,
        action.value,
        reading.rest,
    )


def _is_about_mail(command: str, code: int) -> bool:
    """Tell whether a 5xx says something about this mail, and not about the session."""
    # 503, bad sequence of commands: the two sides disagree on where they are in the dialogue.
    return command not in _OPENING and code != 503


def _find_blame(command: str, code: int, status: str, text: str) -> Blame:
    for rule in _RULES:
        if rule.fits(command, code, status, text):
            return rule.blame
    return Blame.SESSION


# Every kind that relay.net raises; a new one is an error in the match below until it has a line.
_Kind = SourceUnusable | HostUnreachable | PeerClosed | PeerSilent | TlsFailed


def classify_error(error: NetworkError, command: str = "CONNECT") -> Outcome:
    """Return what a connection that failed while ``command`` was under way means. Never a bounce.

    The status is ours (RFC 3463 §3.4, §3.5, §3.8); there is no reply and no code.
    """
    blame, status = _read_kind(error) if isinstance(error, _Kind) else (Blame.SESSION, "4.4.0")
    return Outcome(Disposition.DEFERRED, blame, command, 0, status, str(error)[:_MAX_TEXT])


def _read_kind(error: _Kind) -> tuple[Blame, str]:
    match error:
        case SourceUnusable():
            return Blame.SOURCE, "4.3.5"  # system incorrectly configured: ours
        case HostUnreachable():
            return Blame.HOST, "4.4.1"  # no answer from host
        case PeerClosed() | PeerSilent():
            return Blame.SESSION, "4.4.2"  # bad connection
        case TlsFailed():
            return Blame.HOST, "4.7.5"  # cryptographic failure
        case _:
            assert_never(error)
