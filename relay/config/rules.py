"""What is wrong with the rules of a configuration, and with the scanners and footers they name."""

import math
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from relay.config.pattern import Pattern, compile_names
from relay.config.policy import Footer, Rule, Scanner, Tag
from relay.config.schema import Config
from relay.config.shapes import DOMAIN, FIELD, LOCAL, check_name, check_patterns, check_senders
from relay.config.units import parse_endpoint

# RFC 5321 §4.2: printable ASCII. The reply's first line has 512 octets, most of them for others.
_REPLY = re.compile(r"[ -~]{0,200}")
_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/(\*|[a-z0-9!#$&^_.+-]{1,127})")  # RFC 6838 §4.2
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # all but tab and line end
_MAX_OCTETS = 1 << 30
_MAX_PATTERN = 10_000  # characters
_MAX_FOOTER = 64 * 1024  # characters
# Once in a message (RFC 5322 §3.6; RFC 2045 §3 for those of MIME).
_ONCE = frozenset((
    "from", "sender", "reply-to", "to", "cc", "bcc", "message-id", "in-reply-to", "references",
    "subject", "date", "mime-version", "content-type", "content-transfer-encoding",
    "content-id", "content-disposition",
))  # fmt: skip
# What senders sign beside those, as RFC 6376 §5.4.1 advises. A signature says how often a field is
# there: one more breaks it.
_SIGNED = _ONCE | {"comments", "keywords", "feedback-id", "auto-submitted", "x-mailer"}
_SIGNED_PREFIXES = ("content-", "list-", "resent-")


@dataclass(frozen=True, slots=True)
class _Known:
    """What rules may name."""

    tenants: frozenset[str]
    keyless: tuple[str, ...]  # tenants without a DKIM key
    scanners: dict[str, str]  # name -> kind
    footers: frozenset[str]


def find_rule_problems(config: Config) -> Iterator[str]:
    """Yield what the types cannot say of ``[[rule]]``, ``[[scanner]]`` and ``[[footer]]``."""
    yield from _scanner_problems(config.scanner)
    yield from _footer_problems(config.footer)
    known = _Known(
        tenants=frozenset(tenant.name for tenant in config.tenant),
        keyless=tuple(tenant.name for tenant in config.tenant if not tenant.dkim),
        scanners={scanner.name: scanner.kind for scanner in config.scanner},
        footers=frozenset(footer.name for footer in config.footer),
    )
    names: set[str] = set()
    for number, rule in enumerate(config.rule):
        path = f"rule[{number}]"
        yield from check_name(path, rule.name, names)
        yield from _envelope_problems(path, rule, known)
        yield from _content_problems(path, rule)
        yield from _scan_problems(path, rule, known)
        yield from _action_problems(path, rule, config)
        if rule.footer:
            yield from _check_known(f"{path}.footer", "footer", rule.footer, known.footers)
        if rule.action != "reject":
            yield from _signature_problems(path, rule, known)


def _check_known(path: str, kind: str, name: str, known: Collection[str]) -> Iterator[str]:
    """What is named must be there; else say what is."""
    if name not in known:
        yield f"{path}: no [[{kind}]] named {name!r}; there is {_list_few(known) or 'none'}"


def _list_few(names: Collection[str]) -> str:
    """Name them, in order, but no more than fit on a line or two."""
    few = ", ".join(sorted(names)[:10])
    return f"{few}, ..." if len(names) > 10 else few


# -- scanners and footers


def _scanner_problems(scanners: tuple[Scanner, ...]) -> Iterator[str]:
    names: set[str] = set()
    for number, scanner in enumerate(scanners):
        path = f"scanner[{number}]"
        yield from check_name(path, scanner.name, names)
        yield from _check_address(f"{path}.address", scanner)
        if not 0.1 <= scanner.timeout <= 120:
            yield f"{path}.timeout: expected 0.1 to 120 seconds, got {scanner.timeout:g}"
        if not 1024 <= scanner.max_message <= _MAX_OCTETS:
            yield f"{path}.max_message: expected 1024 to {_MAX_OCTETS}, got {scanner.max_message}"


def _check_address(path: str, scanner: Scanner) -> Iterator[str]:
    if scanner.address.startswith("unix:"):
        place = scanner.address.removeprefix("unix:")
        # unix(7): sun_path has 108 octets, the last one NUL.
        if not place.startswith("/") or "\0" in place or len(place.encode()) > 107:
            yield f'{path}: expected "unix:" and a whole path, as unix:/run/clamd.ctl, got {scanner.address!r}'
        return
    try:
        endpoint = parse_endpoint(scanner.address)
    except ValueError:
        endpoint = None
    if endpoint is None or not endpoint.port:
        yield f'{path}: expected "HOST:PORT" or "unix:/PATH", got {scanner.address!r}'


def _footer_problems(footers: tuple[Footer, ...]) -> Iterator[str]:
    names: set[str] = set()
    for number, footer in enumerate(footers):
        path = f"footer[{number}]"
        yield from check_name(path, footer.name, names)
        if not footer.text.strip():
            yield f"{path}.text: expected a text"
        for key, value in (("text", footer.text), ("html", footer.html)):
            if len(value) > _MAX_FOOTER:
                yield f"{path}.{key}: expected at most {_MAX_FOOTER} characters, got {len(value)}"
            if _CONTROL.search(value.replace("\r\n", "\n")):
                yield f"{path}.{key}: has a control character in it"


# -- conditions


def _envelope_problems(path: str, rule: Rule, known: _Known) -> Iterator[str]:
    for name in rule.tenants:
        yield from _check_known(f"{path}.tenants", "tenant", name, known.tenants)
    yield from check_senders(f"{path}.senders", rule.senders)
    yield from check_patterns(f"{path}.recipient_domains", rule.recipient_domains)
    if rule.larger_than is not None and rule.larger_than > _MAX_OCTETS:
        yield f"{path}.larger_than: expected 0 to {_MAX_OCTETS}, got {rule.larger_than}"
    if rule.recipients_over is not None and not 0 <= rule.recipients_over <= 100_000:
        yield f"{path}.recipients_over: expected 0 to 100000, got {rule.recipients_over}"


def _content_problems(path: str, rule: Rule) -> Iterator[str]:
    for number, condition in enumerate(rule.header):
        here = f"{path}.header[{number}]"
        if not FIELD.fullmatch(condition.name):
            yield f"{here}.name: expected the name of a header field, got {condition.name!r}"
        yield from _check_pattern(f"{here}.pattern", condition.pattern, Pattern)
    for name in rule.attachment_names:
        if not name.strip() or not name.isprintable():
            yield (
                f'{path}.attachment_names: expected "*.exe", "invoice?.zip" or the like, got {name!r}'
            )
    # All of them are one pattern.
    names = "\n".join(rule.attachment_names)
    yield from _check_pattern(f"{path}.attachment_names", names, _compile_lines)
    for kind in rule.attachment_types:
        if not _TYPE.fullmatch(kind):
            yield f'{path}.attachment_types: expected "image/png" or "image/*", got {kind!r}'


def _compile_lines(text: str) -> Pattern:
    return compile_names(text.split("\n"))


def _check_pattern(path: str, text: str, compile_text: Callable[[str], Pattern]) -> Iterator[str]:
    if len(text) > _MAX_PATTERN:
        yield f"{path}: expected at most {_MAX_PATTERN} characters, got {len(text)}"
        return
    try:
        compile_text(text)
    except ValueError as error:
        yield f"{path}: {error}"


def _scan_problems(path: str, rule: Rule, known: _Known) -> Iterator[str]:
    if not rule.scanner:
        for key, value in (("results", rule.results or None), ("score", rule.score)):
            if value is not None:
                yield f"{path}.{key}: needs a scanner to say it"
        return
    yield from _check_known(f"{path}.scanner", "scanner", rule.scanner, known.scanners)
    if not rule.results and rule.score is None:
        yield f"{path}.scanner: expected results or score with it: what must it say?"
    for result in rule.results:
        if not result.strip() or len(result) > 64 or not result.isprintable():
            yield f"{path}.results: expected a word of the scanner's, got {result!r}"
    if rule.score is not None and not (math.isfinite(rule.score) and abs(rule.score) <= 1e6):
        yield f"{path}.score: expected -1000000 to 1000000, got {rule.score}"
    if known.scanners.get(rule.scanner) == "clamd":
        if rule.score is not None:
            yield f"{path}.score: only rspamd gives scores, {rule.scanner} is clamd"
        for result in rule.results:
            if result not in ("clean", "infected"):
                yield f'{path}.results: expected "infected" or "clean", as clamd says, got {result!r}'


# -- what is done


def _action_problems(path: str, rule: Rule, config: Config) -> Iterator[str]:
    if rule.action == "reject":
        for key in ("pool", "priority", "tls", "archive", "copy_to", "tag", "footer"):
            if getattr(rule, key):
                yield f"{path}.{key}: nothing becomes of a message that is rejected; take it out"
    elif rule.text and rule.on_error != "reject":
        yield f'{path}.text: is said to who is rejected; action is "{rule.action}"'
    if not _REPLY.fullmatch(rule.text):
        yield f"{path}.text: expected one line of at most 200 printable ASCII characters, got {rule.text!r}"
    if rule.pool and rule.pool not in config.pool:
        yield f"{path}.pool: no [pool.{rule.pool}]; there is {', '.join(config.pool)}"
    if rule.archive and not (config.archive.directory or config.archive.s3.bucket):
        yield f"{path}.archive: there is no archive; set [archive] directory or s3.bucket"
    for address in rule.copy_to:
        local, _, domain = address.rpartition("@")
        # It goes to hosts of any kind: nothing that needs SMTPUTF8.
        if (
            not address.isascii()
            or local == "*"
            or not LOCAL.fullmatch(local)
            or not DOMAIN.fullmatch(domain.lower())
        ):
            yield f"{path}.copy_to: expected an address (the domain in A-labels), got {address!r}"
    if rule.tag:
        yield from _tag_problems(f"{path}.tag", rule.tag)


def _tag_problems(path: str, tag: Tag) -> Iterator[str]:
    if not FIELD.fullmatch(tag.name):
        yield f"{path}.name: expected the name of a header field, got {tag.name!r}"
    elif tag.name.lower() in ("received", "return-path", "dkim-signature"):
        yield f"{path}.name: {tag.name} says how a message has travelled; expected another name"
    if not tag.value.strip() or len(tag.value) > 500 or not tag.value.isprintable():
        yield f"{path}.value: expected one line of at most 500 characters, got {tag.value!r}"


def _signature_problems(path: str, rule: Rule, known: _Known) -> Iterator[str]:
    """What changes a signed message needs a key to sign it again (RFC 6376 §5.4)."""
    changes = [("footer", "a footer")] if rule.footer else []
    if rule.tag and _is_signed(rule.tag.name):
        changes.append(("tag.name", f"one more {rule.tag.name}"))
    if not changes:
        return
    keyless = [name for name in known.keyless if not rule.tenants or name in rule.tenants]
    if not keyless:
        return
    for key, words in changes:
        yield (
            f"{path}.{key}: {words} breaks the DKIM signatures of the mail it is put into, and there "
            f"is no key to sign it again for {_list_few(keyless)}: give each a [[tenant.dkim]], or "
            f"name in {path}.tenants only those that have one"
        )


def _is_signed(name: str) -> bool:
    lowered = name.lower()
    return lowered in _SIGNED or lowered.startswith(_SIGNED_PREFIXES)


# -- notices


def find_rule_notices(config: Config) -> Iterator[str]:
    """Yield what is allowed of rules but probably not meant."""
    everybody = frozenset(tenant.name for tenant in config.tenant)
    taken: dict[str, str] = {}  # tenants whose mail never gets past a rule: that rule
    for rule in config.rule:
        tenants = frozenset(rule.tenants) or everybody
        if tenants and tenants <= taken.keys():
            before = ", ".join(sorted({taken[tenant] for tenant in tenants}))
            yield (
                f"rule {rule.name}: is never reached, all its mail is taken before by {before}; "
                "put it in front"
            )
        if not _has_conditions(rule):
            taken = dict.fromkeys(tenants, rule.name) | taken
        if rule.larger_than is not None and rule.larger_than >= config.ingress.max_message:
            yield f"rule {rule.name}: nothing is larger_than ingress.max_message, it never holds"
        if rule.tag and rule.tag.name.lower() in _ONCE:
            yield (
                f"rule {rule.name}: a message has one {rule.tag.name} (RFC 5322 §3.6); many receivers "
                "refuse one with two"
            )


def _has_conditions(rule: Rule) -> bool:
    """Tell whether it asks for more than the tenant."""
    return bool(
        rule.senders
        or rule.recipient_domains
        or rule.header
        or rule.larger_than is not None
        or rule.recipients_over is not None
        or rule.attachment_names
        or rule.attachment_types
        or rule.scanner
    )
