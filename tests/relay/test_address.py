import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.address import find_domain, name_sender


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        (b"a@b.test", "b.test"),
        (b"a@B.TEST", "b.test"),
        (b"a@b.test.", "b.test"),
        (b'"a@b"@c.test', "c.test"),
        ("a@bücher.test".encode(), "xn--bcher-kva.test"),
        ("a@BÜCHER.test".encode(), "xn--bcher-kva.test"),
        ("a@faß.test".encode(), "xn--fa-hia.test"),  # IDNA 2008; 2003 would say "fass"
        (b"a@[192.0.2.1]", None),
        (b"a@[IPv6:::1]", None),
        (b"postmaster", None),
        (b"", None),
        (b"a@\xff\xfe", None),
        ("a@\u200b".encode(), None),
        ("a@-ü-.test".encode(), None),
        (b"a@" + b"b." * 512 + b"test", None),
    ],
)
def test_domains(address: bytes, domain: str | None) -> None:
    assert find_domain(address) == domain


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_domain_is_too_odd_to_be_answered(name: bytes) -> None:
    domain = find_domain(b"a@" + name)

    assert domain is None or domain.isascii()


@given(st.text("abcüß.-", max_size=12))
def test_the_form_does_not_change_any_more(name: str) -> None:
    domain = find_domain(b"a@" + name.encode())

    if domain:
        assert find_domain(b"a@" + domain.encode()) == domain


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (b"News@ACME.example", "news@acme.example"),
        (b'"news"@acme.example', "news@acme.example"),
        (b'"n\\ews"@acme.example', "news@acme.example"),
        (b'"a\\\\b"@acme.example', "a\\b@acme.example"),
        (b'"a@b"@acme.example', "a@b@acme.example"),
        (b'"@acme.example', '"@acme.example'),
        ("grüße@bücher.example".encode(), "grüße@xn--bcher-kva.example"),
    ],
)
def test_what_rules_call_a_sender(address: bytes, name: str) -> None:
    assert name_sender(address) == {name, f"*@{name.rpartition('@')[2]}"}


@pytest.mark.parametrize("address", [b"a", b"a@[192.0.2.1]"])
def test_who_has_no_domain_is_called_nothing(address: bytes) -> None:
    assert name_sender(address) == frozenset()


def test_the_null_sender_has_a_name_too() -> None:
    assert name_sender(b"") == {"<>"}
