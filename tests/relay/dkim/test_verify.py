"""Verdicts: on what dkimpy has signed, on what is right but for one thing, and on anything at all."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.config.schema import Dns
from relay.config.units import Seconds
from relay.dkim.canon import BODIES, Form
from relay.dkim.fields import cut_message
from relay.dkim.key import Keys
from relay.dkim.verify import MOST, Verdict, Verifier
from relay.net.resolver import Resolver
from tests.kit.nameserver import SERVFAIL, open_nameserver
from tests.relay.dkim.made import (
    DOMAIN,
    ED25519,
    KEYS,
    MESSAGE,
    RECORD,
    RSA,
    KnownKeys,
    check,
    is_ours,
    make_record,
    make_short_key,
    sign_as,
    sign_elsewhere,
    verify_elsewhere,
    write_txt,
)

NOW = 1_795_478_400.0
FORMS = [(head.encode(), body.encode()) for head, body in itertools.product(BODIES, BODIES)]
each_key = pytest.mark.parametrize("kind", KEYS)
each_forms = pytest.mark.parametrize("forms", FORMS, ids=lambda forms: b"-".join(forms).decode())


def know(kind: str = "ed25519") -> KnownKeys:
    return KnownKeys(make_record(KEYS[kind]))


# -- what others have signed

_WORDS = st.text("ab \tZ;=", max_size=20).map(str.encode)
_VALUES = st.lists(_WORDS, min_size=1, max_size=3).map(b"\r\n\t.".join)
_NAMES = st.sampled_from([b"To", b"to", b"Subject", b"X-Other", b"List-Id", b"Received"])
_FIELDS = st.lists(st.tuples(_NAMES, _VALUES), max_size=6).map(
    lambda fields: b"".join(b"%b: x%b\r\n" % field for field in fields)
)
# Without a line end at the end dkimpy keeps blanks that RFC 6376 §3.4.4 drops: none such.
_BODIES = st.lists(st.text("a. \t", max_size=30).map(str.encode), max_size=6).flatmap(
    lambda lines: st.sampled_from([b"\r\n".join([*lines, b""]), b"\r\n".join([*lines, b"end"])])
)


@each_key
@each_forms
@settings(max_examples=25, deadline=None)
@given(above=_FIELDS, below=_FIELDS, body=_BODIES, cuts=st.lists(st.integers(0, 200), max_size=6))
async def test_what_others_sign_verifies_however_it_is_cut(
    kind: str, forms: tuple[bytes, bytes], above: bytes, below: bytes, body: bytes, cuts: list[int]
) -> None:
    message = above + b"From: a@acme.example\r\n" + below + b"\r\n" + body
    names = [b"from", b"to", b"to", b"subject", b"from", b"list-id", b"x-other", b"nothing"]
    head, body = cut_message(sign_elsewhere(message, kind, forms, names=names))

    keys = know(kind)
    for edges in ([], range(len(body)), sorted(cuts)):
        verifier = Verifier(head, is_ours)
        assert verifier.is_hopeful
        for start, end in itertools.pairwise([0, *edges, max(len(body), *edges, 0)]):
            verifier.feed(body[start:end])
        verdict = await verifier.conclude(keys)
        assert (verdict.domain, verdict.selector, verdict.reason) == (DOMAIN, "s", "")
        assert len(verdict.seal) == (256 if kind == "rsa" else 64)


@each_forms
async def test_one_flipped_bit_breaks_it(forms: tuple[bytes, bytes]) -> None:
    """At every octet that is signed: the fields, the body, and the signature without b= itself."""
    names = [b"from", b"to", b"subject", b"date", b"message-id"]
    message = sign_elsewhere(MESSAGE, "ed25519", forms, names=names)
    keys = know()
    assert (await check(message, keys)).domain
    seal = range(message.index(b" b=") + 3, message.index(b"Received:"))
    unsigned = range(seal.stop, message.index(b"From:"))
    separator = message.index(b"\r\n\r\n") + 2
    for place in range(len(message)):
        if place in unsigned or place in seal or place in (separator, separator + 1):
            continue
        flipped = bytearray(message)
        flipped[place] ^= 1
        assert not (await check(bytes(flipped), keys)).domain, (place, flipped[place - 5 :][:10])
    for place in itertools.islice(seal, 0, 80, 7):
        other = b"A" if message[place : place + 1] != b"A" else b"B"
        assert not (await check(message[:place] + other + message[place + 1 :], keys)).domain


@each_key
async def test_a_signature_of_these_tests_is_like_that_of_others(kind: str) -> None:
    signed = sign_as(MESSAGE, KEYS[kind])

    assert verify_elsewhere(signed, make_record(KEYS[kind]))
    assert (await check(signed, know(kind), cut=1)).domain == DOMAIN


@each_key
async def test_no_other_key_will_do(kind: str) -> None:
    other = know("rsa" if kind == "ed25519" else "ed25519")
    verdict = await check(sign_as(MESSAGE, KEYS[kind]), other)

    assert verdict == Verdict(reason=f"s/{DOMAIN}: the key is of another kind than a=")


# -- what proves nothing


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"l": "5"}, "it covers 5 of 24 octets of the body (l=)"),
        ({"l": "26"}, "it covers 26 of 24 octets of the body (l=)"),
        ({"bh": "A" * 43 + "="}, "the body is not the one that was signed"),
        ({"x": str(int(NOW) - 1)}, "it has expired (x=)"),
        ({"t": str(int(NOW) + 90_000)}, "t= is in the future"),
        ({"a": "rsa-sha1"}, "a= is rsa-sha1, which does not count any more"),
        ({"h": "to:subject"}, "h= does not name From"),
        ({"i": "@evil.example"}, "i= is not of d="),
        ({"v": "2"}, "v= is not 1"),
        ({"c": "relaxed/other"}, "c= is not known"),
        ({"q": "finger"}, "q= is not dns/txt"),
        ({"n": "x; t=1; t=2"}, "t= is there twice"),
        ({"s": "other"}, "no key in the DNS"),
    ],
)
async def test_a_right_signature_with_a_wrong_tag(tags: dict[str, str | None], words: str) -> None:
    verdict = await check(sign_as(MESSAGE, **tags), know(), now=NOW)

    assert not verdict.domain
    assert not verdict.temporary
    assert verdict.reason.endswith(f"{DOMAIN}: {words}")


@pytest.mark.parametrize(
    "tags",
    [
        {"l": "24"},
        {"x": str(int(NOW) + 1)},
        {"t": str(int(NOW) + 80_000)},
        {"i": "joe@news.acme.example"},
        {"q": "dns/txt", "n": "words", "y": "unknown", "z": "From:x"},
        {"d": "news.acme.example"},
        {"h": "from"},
        {"h": "from:from:from:nothing:to"},
    ],
)
async def test_a_right_signature_with_a_right_tag(tags: dict[str, str | None]) -> None:
    keys = know()
    keys.records["s._domainkey.news.acme.example"] = (make_record(ED25519),)

    assert (await check(sign_as(MESSAGE, **tags), keys, now=NOW)).domain == tags.get("d", DOMAIN)


async def test_a_key_of_the_domain_itself_alone() -> None:
    keys = KnownKeys(make_record(ED25519).replace(b"k=", b"t=s; k=", 1))

    assert (await check(sign_as(MESSAGE, i="@acme.example"), keys)).domain
    verdict = await check(sign_as(MESSAGE, i="@a.acme.example"), keys)
    assert verdict.reason.endswith("i= is below d=, which the key does not allow (t=s)")


async def test_a_key_with_too_few_bits() -> None:
    key = make_short_key(1016)

    verdict = await check(sign_as(MESSAGE, key), KnownKeys(make_record(key)))
    assert verdict.reason.endswith("the RSA key has 1016 bits")


async def test_a_second_from_field() -> None:
    signed = sign_as(MESSAGE, h="from:to")  # it names From once, so one more is not signed
    assert (await check(signed, know())).domain

    for field in (b"From: x@y.example\r\n", b"FROM : x@y.example\r\n", b"from\r\n : x\r\n"):
        for message in (field + signed, signed.replace(b"\r\n\r\n", b"\r\n" + field + b"\r\n", 1)):
            verdict = await check(message, know())
            assert verdict == Verdict(reason="several From fields")


async def test_no_from_field() -> None:
    signed = sign_as(MESSAGE.replace(b"From:", b"Form:"))

    assert (await check(signed, know())).reason == "no From field"


@pytest.mark.parametrize("line", [b"X: a\nFrom: x\r\n", b"X: a\rFrom: x\r\n", b"X: \r\r\n"])
async def test_a_head_that_others_may_read_otherwise(line: bytes) -> None:
    verdict = await check(line + sign_as(MESSAGE), know())

    assert verdict.reason == "the head has a CR or LF that is not part of a line end"


async def test_a_head_without_end() -> None:
    for more in (b"X: y\r\n" * 10_001, b"X: %b\r\n" % (b"y" * 600_000)):
        verdict = await check(more + sign_as(MESSAGE), know())

        assert verdict.reason.endswith("which is too much")


# -- which signature


async def test_without_a_signature() -> None:
    verifier = Verifier(cut_message(MESSAGE)[0], is_ours)

    assert not verifier.is_hopeful
    verifier.feed(b"words\r\n")
    assert await verifier.conclude(know()) == Verdict(reason="no DKIM signature")


async def test_signatures_of_others_are_not_read() -> None:
    head = cut_message(MESSAGE)[0]
    for number in range(9):
        head = b"DKIM-Signature: d=D%d.example; nonsense\r\n" % number + head
    head = b"DKIM-Signature: nonsense\r\n" + head
    asked: list[str] = []
    verifier = Verifier(head, lambda domain: bool(asked.append(domain)))

    assert not verifier.is_hopeful
    assert asked == [f"d{number}.example" for number in range(8, -1, -1)]
    assert (await verifier.conclude(know())).reason == (
        "no DKIM signature of these domains, only of ?, d8.example, d7.example"
    )


async def test_one_good_signature_among_bad_ones_is_enough() -> None:
    good = sign_as(MESSAGE)
    bad = sign_as(MESSAGE, s="other").partition(b"\r\n")[0] + b"\r\n"
    ugly = b"DKIM-Signature: v=1; d=acme.example; d=acme.example\r\n"
    others = b"DKIM-Signature: v=1; d=evil.example; s=s\r\n"

    assert (await check(bad + ugly + others + good, know())).domain
    verdict = await check(bad * 2 + ugly, know())
    assert not verdict.domain


async def test_at_most_five_are_tried() -> None:
    bad = sign_as(MESSAGE, s="other").partition(b"\r\n")[0] + b"\r\n"
    keys = know()

    assert (await check(bad * (MOST - 1) + sign_as(MESSAGE), keys)).domain
    assert keys.asked == MOST
    assert not (await check(bad * MOST + sign_as(MESSAGE), keys)).domain
    assert keys.asked == 2 * MOST


async def test_a_changed_body_costs_no_look_up() -> None:
    keys = know()

    assert not (await check(sign_as(MESSAGE) + b"more\r\n", keys)).domain
    assert keys.asked == 0


async def test_a_signature_may_cover_another() -> None:
    signed = sign_as(sign_as(MESSAGE, d="google.example"), h="from:dkim-signature:dkim-signature")
    assert (await check(signed, know())).domain

    assert not (await check(signed.replace(b"d=google", b"d=goggle"), know())).domain
    # One more on top is one more that h= means.
    assert not (await check(b"DKIM-Signature: d=evil.example\r\n" + signed, know())).domain


async def test_the_same_message_has_the_same_seal() -> None:
    first, second = sign_as(MESSAGE), sign_as(MESSAGE.replace(b"One", b"Two"))
    seal = (await check(first, know())).seal

    replayed = first.replace(b"; b=", b"; b=\r\n\t ").replace(b"Received: from a", b"Received: b")
    assert (await check(b"X-New: y\r\n" + first, know())).seal == seal
    assert not (await check(replayed.replace(b"To: bob", b"To: eve"), know())).domain
    assert (await check(replayed, know())).seal == seal
    assert (await check(second, know())).seal not in (seal, b"")


# -- the way to the DNS


async def test_keys_come_from_the_dns() -> None:
    zone = {
        RECORD: {"TXT": [write_txt(make_record(RSA))]},
        "down._domainkey.acme.example": SERVFAIL,
    }
    down = sign_as(MESSAGE, RSA, s="down")
    async with open_nameserver(zone) as server:
        keys = Keys(Resolver(Dns(nameservers=(server.endpoint,), timeout=Seconds(2))))

        assert (await check(sign_as(MESSAGE, RSA), keys)).selector == "s"
        verdict = await check(down, keys)
        assert verdict.temporary
        assert not verdict.domain
        assert verdict.reason.startswith("down/acme.example: down._domainkey.acme.example: no usa")
        # Another one that verifies is enough, and one that fails does not make it permanent.
        above = down.partition(b"\r\n")[0] + b"\r\n"
        assert (await check(above + sign_as(MESSAGE, RSA), keys)).domain
        verdict = await check(above + sign_as(MESSAGE, RSA, s="none"), keys)
        assert verdict.temporary
        assert "; none/acme.example: no key in the DNS" in verdict.reason


# -- anything at all

_SIGNED = sign_as(MESSAGE)
_PARTS = st.sampled_from([
    *(part + b";" for part in _SIGNED.partition(b"\r\n")[0].split(b";")),
    b"DKIM-Signature:", b"d=acme.example;", b"h=from:;", b"From: x\r\n", b"c=simple/simple;",
    b"\r\n", b"\r\n ", b"\r", b"\n", b";", b"=", b":", b"\xff", b"\0", b"l=99999999999999999999;",
])  # fmt: skip
_HEADS = st.one_of(
    st.binary(max_size=200),
    st.lists(_PARTS, max_size=30).map(b"".join),
    st.tuples(st.integers(0, 300), st.binary(max_size=3)).map(
        lambda cut: _SIGNED[: cut[0]] + cut[1] + cut_message(_SIGNED)[0][cut[0] :]
    ),
)


@settings(max_examples=300, deadline=None)
@given(head=_HEADS, pieces=st.lists(st.binary(max_size=40), max_size=4), now=st.floats(0, 2e9))
async def test_any_message_has_a_verdict(head: bytes, pieces: list[bytes], now: float) -> None:
    for keys in (know(), KnownKeys(b"v=DKIM1; p="), know("rsa")):
        verifier = Verifier(head, is_ours, now=now)
        for piece in pieces:
            verifier.feed(piece)
        verdict = await verifier.conclude(keys)

        assert bool(verdict.domain) == (not verdict.reason)
        assert verdict.reason.isprintable()
        assert len(verdict.reason) < 2000


@pytest.mark.parametrize("form", BODIES)
async def test_each_form_of_body_is_hashed_once(form: Form) -> None:
    field = sign_elsewhere(MESSAGE, "ed25519", (b"relaxed", form.encode()))
    field = field.removesuffix(MESSAGE)
    verifier = Verifier(cut_message(field * 3 + MESSAGE)[0], is_ours)

    assert list(verifier._bodies) == [form]
