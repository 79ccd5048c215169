"""What each condition of a rule means."""

import base64
import io
import zipfile
from collections.abc import Sequence
from typing import Any

import pytest

from tests.kit.rules import HEAD, Letter, make_mixed, make_policy, read_config


async def _fits(letter: Letter, **rule: Any) -> bool:
    policy = make_policy(read_config({"action": "hold", **rule}))
    decision = await policy.decide(letter.facts)
    assert decision.action in ("hold", "accept")
    assert (decision.rule is None) == (decision.action == "accept")
    return decision.rule is not None


# -- the envelope


@pytest.mark.parametrize(
    ("tenants", "fits"),
    [([], True), (["acme"], True), (["other", "acme"], True), (["other"], False)],
)
async def test_tenants(tenants: list[str], fits: bool) -> None:
    assert await _fits(Letter(), tenants=tenants) is fits


@pytest.mark.parametrize(
    ("sender", "pattern", "fits"),
    [
        (b"news@acme.example", "news@acme.example", True),
        (b"News@ACME.example.", "news@Acme.example", True),
        (b"news2@acme.example", "news@acme.example", False),
        (b"news@acme.example", "*@acme.example", True),
        (b"news@sub.acme.example", "*@acme.example", False),
        ("grüße@acme.example".encode(), "grüße@acme.example", True),
        ("a@grüße.example".encode(), "*@xn--gre-6ka8l.example", True),
        (b"", "*@acme.example", False),
        (b"", "<>", True),
        (b"a@acme.example", "<>", False),
        (b"a@[192.0.2.1]", "*@acme.example", False),
    ],
)
async def test_senders(sender: bytes, pattern: str, fits: bool) -> None:
    assert await _fits(Letter(sender=sender), senders=["x@y.example", pattern]) is fits


@pytest.mark.parametrize(
    ("recipients", "pattern", "fits"),
    [
        ([b"a@example.org"], "example.org", True),
        ([b"a@EXAMPLE.org."], "Example.org", True),
        ([b"a@sub.example.org"], "example.org", False),
        ([b"a@sub.example.org"], "*.example.org", True),
        ([b"a@b.sub.example.org"], "*.example.org", True),
        ([b"a@example.org"], "*.example.org", False),
        ([b"a@notexample.org"], "*.example.org", False),
        ([b"a@x.example", b"b@example.org"], "example.org", True),
        ([b"a@[192.0.2.1]"], "*", True),
        ([b"a@[192.0.2.1]"], "example.org", False),
        (["a@grüße.example".encode()], "xn--gre-6ka8l.example", True),
    ],
)
async def test_recipient_domains(recipients: Sequence[bytes], pattern: str, fits: bool) -> None:
    letter = Letter(recipients=recipients)

    assert await _fits(letter, recipient_domains=["other.example", pattern]) is fits


@pytest.mark.parametrize(("size", "fits"), [(100, False), (101, True)])
async def test_larger_than(size: int, fits: bool) -> None:
    assert await _fits(Letter(size=size), larger_than=100) is fits


@pytest.mark.parametrize(("count", "fits"), [(2, False), (3, True)])
async def test_recipients_over(count: int, fits: bool) -> None:
    assert await _fits(Letter(recipients=[b"a@b.example"] * count), recipients_over=2) is fits


async def test_bound_of_nothing_is_a_bound() -> None:
    assert await _fits(Letter(), larger_than=0, recipients_over=0)


# -- the head


@pytest.mark.parametrize(
    ("head", "fits"),
    [
        (b"X-Test: a\r\n", True),
        (b"x-TEST: a\r\n", True),
        (b"X-Test:\r\n", True),
        (b"X-Test : a\r\n", True),
        (b"X-Test2: a\r\n", False),
        (b"X-Other: a\r\n X-Test: b\r\n", False),
        (b"", False),
    ],
)
async def test_header_is_there(head: bytes, fits: bool) -> None:
    assert await _fits(Letter(HEAD + head), header=[{"name": "X-test"}]) is fits


_BASE64 = b"=?utf-8?B?" + base64.b64encode("streng vertraulich: Grüße".encode()) + b"?="


@pytest.mark.parametrize(
    ("value", "pattern", "fits"),
    [
        (b"Strictly CONFIDENTIAL", "confidential", True),
        (b"conf\r\n idential", "confidential", False),
        (b"strictly\r\n confidential", "strictly confidential", True),
        (b"=?utf-8?q?c=6Fnfidential?=", "confidential", True),
        (b"=?utf-8?q?confi?= \r\n =?utf-8?q?dential?=", "confidential", True),
        (b"Re: " + _BASE64, "vertraulich: grüße$", True),
        (b"=?iso-8859-1?q?gr=FC=DFe?=", "^grüße$", True),
        (b"=?utf-8?q?c=6Fnfidential?=", r"=\?utf-8\?q", True),
        ("Grüße".encode(), "GRÜSSE|grüße", True),
        (b"gr\xfc\xdfe", "^gr..e$", True),
        (b"public", "confidential", False),
        (b"", "^ ?$", True),
    ],
)
async def test_header_matches_as_it_is_written_and_as_it_is_read(
    value: bytes, pattern: str, fits: bool
) -> None:
    letter = Letter(b"From: a@acme.example\r\nSubject: " + value + b"\r\nTo: x\r\n")

    assert await _fits(letter, header=[{"name": "Subject", "pattern": pattern}]) is fits


async def test_any_field_of_the_name_may_match() -> None:
    letter = Letter(b"Subject: a\r\nFrom: a@acme.example\r\nsubject: b\r\n")

    assert await _fits(letter, header=[{"name": "Subject", "pattern": "b"}])


async def test_all_header_conditions_must_hold() -> None:
    letter = Letter(HEAD + b"X-A: 1\r\nX-B: 2\r\n")
    first, second, third = ({"name": "X-A"}, {"name": "X-B", "pattern": "2"}, {"name": "X-C"})

    assert await _fits(letter, header=[first, second])
    assert not await _fits(letter, header=[first, second, third])


# -- the parts


@pytest.mark.parametrize(
    ("types", "fits"),
    [
        (["image/png"], True),
        (["image/*"], True),
        (["IMAGE/*"], True),
        (["image/jpeg"], False),
        (["text/html", "image/png"], True),
        (["multipart/mixed"], True),
        (["application/*"], False),
    ],
)
async def test_attachment_types(types: list[str], fits: bool) -> None:
    letter = Letter(*make_mixed(("text/plain", "a.txt"), ("image/png", "a.png")))

    assert await _fits(letter, attachment_types=types) is fits


@pytest.mark.parametrize(
    ("names", "fits"),
    [
        (["*.exe"], True),
        (["*.EXE"], True),
        (["a.txt"], True),
        (["*.js", "set*"], True),
        (["*.js"], False),
        (["*"], True),
    ],
)
async def test_attachment_names(names: list[str], fits: bool) -> None:
    letter = Letter(*make_mixed(("text/plain", "a.txt"), ("image/png", "SETUP.exe")))

    assert await _fits(letter, attachment_names=names) is fits


@pytest.mark.parametrize(
    "name", ["setup.exe. ", "setup\uff0eexe", "invoice\u202efdp.exe", "\u202eexe.fdp"]
)
async def test_attachment_by_another_name(name: str) -> None:
    assert await _fits(Letter(*make_mixed(("text/plain", name))), attachment_names=["*.exe"])


def _make_zip(*names: str) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return memory.getvalue()


async def test_name_in_an_archive() -> None:
    head = HEAD + b"MIME-Version: 1.0\r\nContent-Type: application/zip; name=a.zip\r\n"
    head += b"Content-Transfer-Encoding: base64\r\n"
    letter = Letter(head, base64.encodebytes(_make_zip("doc/setup.EXE")).replace(b"\n", b"\r\n"))

    assert await _fits(letter, attachment_names=["*.exe"])
    assert await _fits(letter, attachment_names=["*.zip"])
    assert not await _fits(letter, attachment_names=["*.js"])


async def test_type_in_an_attached_message() -> None:
    inner_head, inner_body = make_mixed(("image/png", "a.png"))
    inner = base64.encodebytes(inner_head + b"\r\n" + inner_body).replace(b"\n", b"\r\n")
    head = HEAD + b"MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n"
    letter = Letter(head + b"Content-Transfer-Encoding: base64\r\n", inner)

    assert await _fits(letter, attachment_types=["image/png"])


async def test_message_without_attachments() -> None:
    assert not await _fits(Letter(), attachment_names=["*"])
    assert await _fits(Letter(*make_mixed(("text/plain", ". ."))), attachment_names=["*"])
    assert await _fits(Letter(), attachment_types=["text/plain"])


async def test_all_conditions_must_hold() -> None:
    letter = Letter(*make_mixed(("image/png", "a.png")))
    rule: dict[str, Any] = {
        "tenants": ["acme"],
        "senders": ["*@acme.example"],
        "recipient_domains": ["there.example"],
        "larger_than": 10,
        "recipients_over": 0,
        "header": [{"name": "Subject", "pattern": "hello"}],
        "attachment_types": ["image/*"],
        "attachment_names": ["*.png"],
    }
    assert await _fits(letter, **rule)

    for key, value in (
        ("tenants", ["other"]),
        ("senders", ["b@acme.example"]),
        ("recipient_domains", ["here.example"]),
        ("larger_than", 100_000),
        ("recipients_over", 1),
        ("header", [{"name": "Subject", "pattern": "bye"}]),
        ("attachment_types", ["text/plain"]),
        ("attachment_names", ["*.txt"]),
    ):
        assert not await _fits(letter, **rule | {key: value}), key
