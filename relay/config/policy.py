"""Tables about what becomes of some messages: rules, and the scanners and footers that they name."""

from typing import Literal

from relay.config.section import Section
from relay.config.units import Octets, Priority, Seconds


class Scanner(Section, frozen=True):
    """A program that looks for spam or malware; a rule asks it."""

    name: str  # how rules call it
    kind: Literal["rspamd", "clamd"]  # what it speaks; clamd says "infected", rspamd its actions
    address: str  # "127.0.0.1:11333", or "unix:/run/clamav/clamd.ctl"
    timeout: Seconds = Seconds(20)  # an answer that takes longer counts as a failure
    on_failure: Literal["accept", "defer"] = "defer"  # the rule does not match; or 451
    max_message: Octets = Octets(50 << 20)  # larger ones count as a failure


class Footer(Section, frozen=True):
    """What is put below the text of a message."""

    name: str  # how rules call it
    text: str  # for the plain text of a message
    html: str = ""  # default: made from the text


class HeaderCondition(Section, frozen=True):
    """A header field is there; with ``pattern``, and its value matches."""

    name: str  # of the header field
    pattern: str = ""  # a regular expression, searched in the unfolded value, without case


class Tag(Section, frozen=True):
    """A header field that is put on top of a message."""

    name: str  # of the header field
    value: str  # what stands in it


class Rule(Section, frozen=True):
    """What becomes of some messages. The first rule whose conditions all hold decides."""

    name: str  # how it is called in events
    # -- Conditions: those that are set must all hold --

    tenants: tuple[str, ...] = ()  # it is of one of these; none: of any
    senders: tuple[str, ...] = ()  # of the envelope: "news@acme.example", "*@acme.example"
    recipient_domains: tuple[str, ...] = ()  # of any recipient: "example.org", "*.example.org"
    header: tuple[HeaderCondition, ...] = ()  # all of them must be there
    larger_than: Octets | None = None  # the size of the whole message
    recipients_over: int | None = None  # it has more recipients than this
    attachment_names: tuple[str, ...] = ()  # any of them, in archives too: "*.exe"
    attachment_types: tuple[str, ...] = ()  # any of them: "application/x-msdownload", "image/*"
    scanner: str = ""  # a [[scanner]] says one of `results`, or a score of at least `score`
    results: tuple[str, ...] = ()  # of the scanner, any of them: "reject", "infected"
    score: float | None = None  # of the scanner: this, or more
    # When the message cannot be taken apart to find out: as if the condition held ("match"), or did
    # not ("skip"); or it is answered 451 ("defer"), 550 ("reject"), or held.
    on_error: Literal["match", "skip", "defer", "reject", "hold"] = "hold"
    # -- What is done --

    # hold: it is accepted, and waits for `outgate retry` or `outgate bounce`.
    action: Literal["accept", "reject", "hold"] = "accept"
    text: str = ""  # what the reply says to what is rejected
    pool: str = ""  # instead of the tenant's
    priority: Priority | None = None  # instead of the tenant's
    tls: Literal["", "verify"] = ""  # verify: goes only to hosts whose certificate holds
    archive: bool = False  # a copy goes into the archive
    copy_to: tuple[str, ...] = ()  # more recipients, who cause no notices
    tag: Tag | None = None
    footer: str = ""  # the name of a [[footer]]
