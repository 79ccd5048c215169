"""Every form of ``store.url``, and what is said of those that are none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.storeurl import (
    add_password,
    has_password,
    hide_secrets,
    read_store_url,
    write_place,
)


@pytest.mark.parametrize("url", ["redis://h:1/0", "rediss://u:p@h/2?x=y", "unix:///run/sock"])
def test_one_server(url: str) -> None:
    address = read_store_url(url)

    assert (address.kind, address.url, address.hosts) == ("plain", url, ())


def test_sentinels() -> None:
    address = read_store_url(
        "redis+sentinel://u:p%40@h1,h2:2,[::1]:3/mail/4?ssl_x=a&sentinel_password=s%26"
    )

    assert address.kind == "sentinel"
    assert address.hosts == (("h1", 26379), ("h2", 2), ("::1", 3))
    assert address.service == "mail"
    assert address.make_url(("10.0.0.1", 6379)) == "redis://u:p%40@10.0.0.1:6379/4?ssl_x=a"
    assert address.make_sentinel_url(("::1", 3)) == "redis://:s%26@[::1]:3/0?ssl_x=a"


def test_a_cluster_with_tls() -> None:
    address = read_store_url("rediss+cluster://:p@h1:7000,h2/0")

    assert address.kind == "cluster"
    assert address.hosts == (("h1", 7000), ("h2", 6379))
    assert address.make_url(("h3", 1)) == "rediss://:p@h3:1/0"


def test_servers_password_is_not_told_to_sentinels() -> None:
    address = read_store_url("redis+sentinel://u:secret@h/mail")

    assert address.make_sentinel_url(("h", 1)) == "redis://h:1/0"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("localhost", "expected redis://HOST:PORT/0"),
        ("http://h", "expected redis://HOST:PORT/0"),
        ("unix+cluster://h", "expected redis://HOST:PORT/0"),
        ("redis+sentinel://h", "/SERVICE/0"),
        ("redis+sentinel://h/mail/x", "/SERVICE/0"),
        ("redis+sentinel:///mail", "got ''"),
        ("redis+cluster://h:0", "got 'h:0'"),
        ("redis+cluster://h:x", "got 'h:x'"),
        ("redis+cluster://[::1", "expected"),
        ("redis+cluster://h,", "got ''"),
        ("redis+cluster://h/1", "no database but 0"),
        ("redis+cluster://" + ",".join(["h"] * 65), "at most 64"),
    ],
)
def test_what_is_none(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_store_url(url)


@given(st.text(st.sampled_from("redis+sentinelcluster:/@,[]?=&0123456789. "), max_size=80))
def test_any_text_is_an_address_or_an_error_that_can_be_read(text: str) -> None:
    for url in (text, f"redis+sentinel://{text}", f"rediss+cluster://{text}"):
        try:
            address = read_store_url(url)
        except ValueError as error:
            assert "expected" in str(error)  # noqa: PT017
        else:
            assert all(0 < port < 65_536 for _, port in address.hosts)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://u:p@h:1/0?password=x", "redis://h:1/0"),
        ("unix:///run/sock?password=x", "unix:///run/sock"),
        ("redis+sentinel://u:p@h,i/mail/0?sentinel_password=x", "redis+sentinel://h,i/mail/0"),
    ],
)
def test_people_see_no_secrets(url: str, shown: str) -> None:
    assert hide_secrets(url) == shown


def test_place_of_ipv6() -> None:
    assert write_place(("::1", 2)) == "[::1]:2"


@pytest.mark.parametrize(
    ("url", "made"),
    [
        ("redis://h:1/0", "redis://:p%40%2F@h:1/0"),
        ("rediss://u@h", "rediss://u:p%40%2F@h"),
        ("redis://u:@h?x=a@b", "redis://u:p%40%2F@h?x=a@b"),
        ("unix:///run/a@b", "unix://:p%40%2F@/run/a@b"),
        ("redis+sentinel://h1,[::1]:2/mail/4", "redis+sentinel://:p%40%2F@h1,[::1]:2/mail/4"),
        ("redis+cluster://u@h1:1,h2:2", "redis+cluster://u:p%40%2F@h1:1,h2:2"),
    ],
)
def test_a_password_from_elsewhere(url: str, made: str) -> None:
    assert not has_password(url)
    assert add_password(url, "p@/") == made
    assert has_password(made)
    assert hide_secrets(made) == hide_secrets(url)


def test_a_password_from_elsewhere_is_the_servers_only() -> None:
    address = read_store_url(add_password("redis+sentinel://h/mail?sentinel_password=s", "p"))

    assert address.make_url(("h", 1)) == "redis://:p@h:1/0"
    assert address.make_sentinel_url(("h", 2)) == "redis://:s@h:2/0"
