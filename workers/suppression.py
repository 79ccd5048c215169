"""Recipients that are not tried any more: who counts as unknown, and claims without them."""

import re

import msgspec

from relay.model import Blame, Claim, Disposition, Outcome, Recipient

# A reply without a status has to say it in words; and some hosts say "unknown" to whom they block.
_UNKNOWN = re.compile(
    r"\b(?:unknown|no such|invalid|unrouteable) (?:\w{1,20} )?"
    r"(?:user|recipient|mailbox|address|account|person|local part)"
    r"|\b(?:user|recipient|mailbox|address|account)\b.{0,80}?"
    r"(?:unknown|not found|not exist|doesn'?t exist|no longer (?:exists|valid)|not known)"
    r"|\bnot? (?:a )?(?:known|valid) (?:user|recipient|mailbox|address)"
    r"|\bno (?:mailbox|one|body) (?:here )?(?:by|with|has)\b",
    re.IGNORECASE | re.DOTALL,
)
_POLICY = re.compile(
    r"block|black|\bspam|polic|reputation|gr[ea]ylist|rbl\b|\bspf\b|\bdkim\b|\bdmarc\b|relay"
    r"|sender|mail from|\bip\b|too many|\brate\b|denied|domain|quota|\bfull\b|verif|inactive"
    r"|disabled|suspended|try again|later",
    re.IGNORECASE,
)
_CODES = (550, 553)  # RFC 5321 §4.2.3: no mailbox of that name; 551 and 552 know it
_STATUSES = ("5.1.1", "5.1.10")  # RFC 3463 §3.2; RFC 7505 and Exchange's "recipient not found"


def is_unknown(outcome: Outcome) -> bool:
    """Tell whether a host said, of this recipient and for good, that nobody has this address.

    Whatever could be about us, the sender or the message does not count: mail withheld wrongly is
    worse than an attempt made in vain. At RCPT only: later answers are about several recipients.
    """
    if outcome.disposition is not Disposition.BOUNCED or outcome.blame is not Blame.RECIPIENT:
        return False
    if outcome.command != "RCPT" or outcome.code not in _CODES or _POLICY.search(outcome.text):
        return False
    if outcome.status:
        return outcome.status in _STATUSES
    return outcome.code == 550 and _UNKNOWN.search(outcome.text) is not None


class Trimmed(Claim, frozen=True):
    """A claim whose envelope lacks some recipients: they fail when it ends, without an attempt."""

    withheld: tuple[Recipient, ...] = ()


def trim(claim: Claim, suppressed: frozenset[bytes]) -> Trimmed:
    """Take recipients out of a claim's envelope. The delivery in the store keeps them."""
    envelope = claim.delivery.envelope
    kept: list[Recipient] = []
    withheld: list[Recipient] = []
    for recipient in envelope.recipients:
        (withheld if recipient.address in suppressed else kept).append(recipient)
    envelope = msgspec.structs.replace(envelope, recipients=tuple(kept))
    fields = msgspec.structs.asdict(claim)
    fields["delivery"] = msgspec.structs.replace(claim.delivery, envelope=envelope)
    before = claim.withheld if isinstance(claim, Trimmed) else ()
    fields["withheld"] = (*before, *withheld)
    return Trimmed(**fields)


def make_outcome(recipient: Recipient, times: int) -> Outcome:
    """Return what a withheld recipient gets; the sender will read it."""
    address = recipient.address.decode("utf-8", "replace")
    text = (
        f"not tried: {times} times in a row the recipient's mail server has answered that nobody "
        "has this address. If it is right after all, the operator of this gateway lets it be "
        f"tried again: outgate suppressed --lift {address}"
    )
    return Outcome(Disposition.BOUNCED, Blame.RECIPIENT, status="5.1.1", text=text)
