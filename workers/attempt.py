"""An attempt: where it was made, how it stands on record, and what the record says of the last one."""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from relay.events import decode_event
from relay.model import Blame, Claim, Disposition, Outcome, Recipient
from workers.tls.guard import Policy
from workers.tls.proof import NOTHING, Proof


@dataclass(slots=True)
class Attempt:
    """Where an attempt was made, for the record; all empty when none could be.

    ``dsn``: the host offered DSN, and so has taken over telling the sender (RFC 3461 §5.2.1).
    ``policy``: who demanded what of TLS; ``proof``: what it was. ``seconds``: from MAIL to the last answer,
    when it has come.
    """

    source: str = ""
    host: str = ""
    address: str = ""
    dsn: bool = False
    policy: Policy = "none"
    proof: Proof = NOTHING
    site: str = ""
    seconds: float = 0.0


class _LastOutcome(msgspec.Struct, frozen=True):
    """What a recipient got, as it stands in an event."""

    address: str
    command: str = ""
    code: int = 0
    status: str = ""
    text: str = ""


class Last(msgspec.Struct, frozen=True):
    """What is wanted of the event of the last attempt."""

    host: str = ""
    recipients: tuple[_LastOutcome, ...] = ()
    time: float = 0.0


_NOTHING_SAID = _LastOutcome("", status="4.4.7", text="it could not be tried in time")


# -- on record ------------------------------------------------------------------------------------


def describe(name: str, claim: Claim, attempt: Attempt, now: float) -> dict[str, object]:
    """Return an event about an attempt: which delivery, from where to where, how."""
    delivery = claim.delivery
    return {
        "time": now,
        "event": name,
        "id": delivery.message_id,
        "delivery": delivery.id,
        "tenant": delivery.tenant,
        "domain": delivery.domain,
        "attempt": claim.attempts + 1,
        "source": attempt.source,
        "site": attempt.site,
        "host": attempt.host,
        "address": attempt.address,
        "seconds": attempt.seconds,
        **_describe_tls(attempt),
    }


def _describe_tls(attempt: Attempt) -> dict[str, object]:
    """Return what an event says of TLS: nobody should have to believe us that it was validated."""
    proof = attempt.proof
    said: dict[str, object] = {"tls": proof.protocol}
    if attempt.address:
        said["tls_policy"] = attempt.policy
    if proof.protocol:
        said["tls_verified"] = proof.verified
        said["certificate"] = proof.fingerprint
    if proof.text:
        said["tls_problem"] = proof.text
    return said


def describe_answers(pairs: Iterable[tuple[Recipient, Outcome]]) -> list[dict[str, object]]:
    """Return what recipients got, as it stands in events."""
    return [
        {
            "address": show(recipient.address),
            "outcome": outcome.disposition.value,
            "command": outcome.command,
            "code": outcome.code,
            "status": outcome.status,
            "text": outcome.text,
            "blame": outcome.blame.value if outcome.blame else "",
            **({"label": outcome.label} if outcome.label else {}),
        }
        for recipient, outcome in pairs
    ]


def show(octets: bytes) -> str:
    """Return an address as it stands in events."""
    return octets.decode("utf-8", "replace")


# -- the last one ---------------------------------------------------------------------------------


def read_last(claim: Claim) -> Last:
    """Return what the last attempt's event says; nothing when there is none, or no sense in it."""
    try:
        return msgspec.convert(decode_event(claim.previous), Last)
    except msgspec.MsgspecError:
        return Last()


def recall(claim: Claim, reason: str) -> tuple[str, list[Outcome]]:
    """Return from the last attempt's event which host it met, and what each recipient got.

    Still "deferred": it is our time that is over, not the host that said so.
    """
    last = read_last(claim)
    said = {one.address: one for one in last.recipients}
    nothing = msgspec.structs.replace(_NOTHING_SAID, text=reason) if reason else _NOTHING_SAID
    outcomes = []
    for recipient in claim.delivery.envelope.recipients:
        one = said.get(show(recipient.address), nothing)
        outcomes.append(
            Outcome(Disposition.DEFERRED, Blame.HOST, one.command, one.code, one.status, one.text)
        )
    return last.host, outcomes
