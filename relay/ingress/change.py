"""What a rule changes in a message: a footer, a tag; and the signature that makes it whole again.

Nothing else ever changes a message. What is inside a DKIM signature cannot be changed without breaking
it, so whoever asks for that has given us a key of the tenant, and we sign what goes out
(relay/config/rules.py refuses the rule otherwise). The old signature stays where it is: one that
does not hold says no more than none (RFC 6376 §6.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from relay.config.policy import Footer, Tag
from relay.dkim.sign import Signer
from relay.ingress.head import take_head
from relay.rewrite import CannotChange, add_field, add_footer, find_signed


@dataclass(slots=True)
class Changed:
    """``message``: None when nothing was changed. ``what`` was done, and what not, and why."""

    message: bytes | None = None
    what: list[str] = field(default_factory=list)
    not_done: list[str] = field(default_factory=list)


def change(
    message: bytes, tag: Tag | None, footer: Footer | None, signers: Sequence[Signer]
) -> Changed:
    """Return the message with a tag and a footer, signed again if it was signed.

    What cannot be done without harm is not done: the message goes as it is, and the event says so.
    """
    done = Changed()
    if message.startswith((b" ", b"\t")):
        # It goes on with our Received line; under a field of ours it would go on with that.
        done.not_done.append("its head begins in the middle of a field")
        return done
    signed = find_signed(take_head(message))
    broken = False
    if footer is not None:
        try:
            done.message = add_footer(message, footer.text, footer.html)
            done.what.append("footer")
            broken = bool(signed)
        except CannotChange as error:
            done.not_done.append(f"footer: {error}")
    if tag is not None:
        # Of a field that is signed none can be added (RFC 6376 §8.15), except before a new signature.
        is_signed = tag.name.lower().encode() in signed
        if is_signed and not signers:
            done.not_done.append(f"tag: {tag.name} is signed, and there is no key to sign it again")
        else:
            done.message = add_field(done.message or message, tag.name, tag.value)
            done.what.append("tag")
            broken = broken or is_signed
    if broken and done.message is not None:
        for signer in signers:
            done.message = signer.sign(done.message) + done.message
            done.what.append(f"signed by {signer.domain}")
    return done
