"""Sites: which domain is whose, and what holds there."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config import Config, Rate, Seconds, read
from relay.config.schema import Site
from relay.errors import ConfigError
from workers import site as module
from workers.site import Sites, Terms, find_notices, load_providers

DELIVERY = {"connections": 8, "messages_per_connection": 40, "retry": ["1m", "1h"]}


def configure(*sites: dict[str, Any], **delivery: Any) -> Config:
    document = {
        "ingress": {"hostname": "gate.example.net"},
        "site": list(sites),
        "delivery": {**DELIVERY, **delivery},
    }
    return read(document, base=Path(), environment={})


def make(*sites: dict[str, Any]) -> Sites:
    return Sites(configure(*sites))


def match(sites: Sites, domain: str, *hosts: str) -> str | None:
    terms = sites.match(domain, hosts)
    return terms.name if terms else None


# -- which site


@pytest.mark.parametrize(
    ("hosts", "name"),
    [
        (["gmail-smtp-in.l.google.com"], "google"),
        (["aspmx.l.google.com"], "google"),
        (["alt1.aspmx.l.google.com", "alt2.aspmx.l.google.com"], "google"),
        (["aspmx2.googlemail.com", "aspmx3.googlemail.com"], "google"),
        (["smtp.google.com"], "google"),
        (["hotmail-com.olc.protection.outlook.com"], "outlook"),
        (["contoso-com.mail.protection.outlook.com"], "exchange-online"),
        (["contoso-com.a-v1.mx.microsoft"], "exchange-online"),
        (["mta5.am0.yahoodns.net", "mta6.am0.yahoodns.net"], "yahoo"),
        (["mx-aol.mail.gm0.yahoodns.net"], "yahoo"),
        (["mx01.mail.icloud.com", "mx02.mail.icloud.com"], "icloud"),
        (["mx1.mxge.comcast.net", "mx2.mxge.comcast.net"], "comcast"),
        (["smtp-in.orange.fr"], "orange"),
        (["mx00.emig.gmx.net", "mx01.emig.gmx.net"], "gmx"),
        (["mx-ha02.web.de", "mx-ha03.web.de"], "gmx"),
        (["eu-smtp-inbound-1.mimecast.com", "eu-smtp-inbound-2.mimecast.com"], "mimecast"),
        (["mx1.qq.com", "mx2.qq.com", "mx3.qq.com"], "qq"),
        (["163mx01.mxmail.netease.com"], "netease"),
        # Hosts of theirs that take no mail: a stranger could point an MX record there.
        (["www.google.com"], None),
        (["c-198-51-100-7.hsd1.nj.comcast.net"], None),
        (["mx01.mail.icloud.com.example.org"], None),
        (["olc.protection.outlook.com"], None),
        (["evilaspmx.l.google.com"], None),
        (["mx.example.org"], None),
        ([], None),
    ],
)
def test_large_providers_are_known_by_their_hosts(hosts: list[str], name: str | None) -> None:
    assert match(make(), "example.org", *hosts) == name


def test_one_host_of_a_provider_among_others_is_not_the_provider() -> None:
    sites = make({"name": "big", "mx": ["*.big.test"]})

    assert match(sites, "x.test", "mx.big.test", "dead.x.test") is None
    assert match(sites, "x.test", "aspmx.l.google.com", "dead.x.test") is None
    assert match(sites, "x.test", "mx.big.test", "aspmx.l.google.com") is None
    assert match(sites, "x.test", "mx.big.test", "mx2.big.test") == "big"


def test_configured_sites_come_first_and_in_order() -> None:
    sites = make(
        {"name": "named", "domains": ["a.test", "*.b.test"]},
        {"name": "mine", "mx": ["aspmx.l.google.com"]},
        {"name": "late", "domains": ["a.test"]},
    )

    assert match(sites, "a.test", "aspmx.l.google.com") == "named"
    assert match(sites, "c.b.test", "mx.c.test") == "named"
    assert match(sites, "b.test", "aspmx.l.google.com") == "mine"
    assert match(sites, "b.test", "gmail-smtp-in.l.google.com") == "google"


def test_site_without_mx_and_domains_is_for_every_set_of_hosts_by_itself() -> None:
    sites = make({"name": "first", "domains": ["a.test"]}, {"name": "rest", "connections": 3})

    assert match(sites, "a.test") == "first"
    # Not one site for all: one that is down would hold up the others.
    assert match(sites, "b.test", "mx.b.test") is None
    assert match(sites, "gmail.com", "gmail-smtp-in.l.google.com") is None
    assert sites.find("mx.b.test").connections == 3
    assert sites.find("mx.b.test").name == "mx.b.test"
    assert "rest" not in sites


def test_domain_matches_without_hosts_and_hosts_without_domain() -> None:
    sites = make({"name": "s", "domains": ["a.test"], "mx": ["mx.s.test"]})

    assert match(sites, "a.test") == match(sites, "b.test", "mx.s.test") == "s"
    assert match(sites, "b.test") is None


# -- terms


def test_site_without_an_entry_has_the_defaults() -> None:
    sites = make()

    assert sites.find("mx.example.org+1-ab12cd34") == Terms(
        name="mx.example.org+1-ab12cd34",
        tls="opportunistic",
        messages_per_connection=40,
        connections=None,
        rates=(),
        source_connections=8,
        source_rates=(),
        retry=(60, 3600),
    )
    assert sites.find("mx.example.org+1-ab12cd34") is sites.find("mx.example.org+1-ab12cd34")
    assert "mx.example.org+1-ab12cd34" not in sites


def test_site_has_what_its_entry_says() -> None:
    sites = make(
        {
            "name": "s",
            "mx": ["mx.s.test"],
            "tls": "verify",
            "connections": 5,
            "messages_per_connection": 30,
            "rate": ["20000/d", "10/s burst 3"],
            "retry": ["2m"],
            "source": {"connections": 2, "messages_per_connection": 9, "rate": "1/s"},
        }
    )

    assert sites.find("s") == Terms(
        name="s",
        tls="verify",
        messages_per_connection=9,
        connections=5,
        rates=(Rate(10, 1, 3), Rate(20_000, 86_400)),
        source_connections=2,
        source_rates=(Rate(1, 1),),
        retry=(120,),
    )
    assert sites.match("x.test", ["mx.s.test"]) is sites.find("s")
    assert "s" in sites


@pytest.mark.parametrize(
    ("site", "messages"),
    [
        ({"messages_per_connection": 7, "source": {"messages_per_connection": 9}}, 9),
        ({"messages_per_connection": 7}, 7),
        ({"source": {"messages_per_connection": 9}}, 9),
        ({}, 40),
    ],
)
def test_nearest_number_of_messages_holds(site: dict[str, Any], messages: int) -> None:
    assert make({"name": "s", **site}).find("s").messages_per_connection == messages


def test_connections_of_a_site_are_no_limit_of_its_sources() -> None:
    terms = make({"name": "s", "connections": 5}).find("s")

    assert (terms.connections, terms.source_connections) == (5, 8)


def test_terms_of_unknown_sites_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE_SIZE", 10)
    sites = make({"name": "s", "mx": ["mx.s.test"]})
    kept = sites.find("s")

    for number in range(25):
        sites.find(f"mx{number}.test")

    assert len(sites._others) == 10
    assert sites.find("s") is kept
    assert sites.find("mx0.test").source_connections == 8


# -- changing a provider's entry


def test_entry_of_a_provider_is_changed_where_a_site_of_its_name_says_something() -> None:
    sites = make({"name": "google", "connections": 60, "rate": "9/s", "source": {"rate": "5/s"}})

    shipped, terms = make().find("google"), sites.find("google")

    assert match(sites, "gmail.com", "gmail-smtp-in.l.google.com") == "google"
    assert terms == Terms(
        name="google",
        tls="require",
        messages_per_connection=shipped.messages_per_connection,
        connections=60,
        rates=(Rate(9, 1),),
        source_connections=shipped.source_connections,
        source_rates=(Rate(5, 1),),
        retry=shipped.retry,
    )


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"tls": "verify"}, "tls", "verify"),
        ({"tls": "none"}, "tls", "none"),
        ({"tls": "opportunistic"}, "tls", "opportunistic"),
        ({"messages_per_connection": 3}, "messages_per_connection", 3),
        ({"retry": ["5m"]}, "retry", (300,)),
        ({"source": {"connections": 1}}, "source_connections", 1),
        ({"source": {"messages_per_connection": 2}}, "messages_per_connection", 2),
    ],
)
def test_each_key_changes_itself_and_nothing_else(
    change: dict[str, Any], field: str, value: object
) -> None:
    before = make().find("google")
    after = make({"name": "google", **change}).find("google")

    differing = {n for n in Terms.__slots__ if getattr(before, n) != getattr(after, n)}
    assert getattr(after, field) == value
    assert differing <= {field}


def test_changed_provider_keeps_its_place_in_the_file() -> None:
    sites = make({"name": "google", "connections": 1}, {"name": "rest"})

    assert match(sites, "gmail.com", "aspmx.l.google.com") == "google"
    assert match(sites, "x.test", "mta5.am0.yahoodns.net") is None


@pytest.mark.parametrize("own", [{"mx": ["mx.own.test"]}, {"domains": ["own.test"]}])
def test_site_with_hosts_or_domains_takes_the_place_of_a_provider(own: dict[str, Any]) -> None:
    sites = make({"name": "google", **own})

    assert match(sites, "own.test", "mx.own.test") == "google"
    assert match(sites, "gmail.com", "gmail-smtp-in.l.google.com") is None
    assert sites.find("google").tls == "opportunistic"


# -- the shipped table


@pytest.mark.parametrize("site", load_providers(), ids=lambda site: site.name)
def test_provider_has_hosts_and_careful_limits(site: Site) -> None:
    assert site.mx
    assert not site.domains
    assert site.messages_per_connection
    assert site.source.connections is None or site.source.connections <= 25
    # "verify" would be a promise about certificates that nobody has made to us.
    assert site.tls in (None, "require")
    # A wildcard of two labels takes in everything that an organisation has.
    assert all(pattern.count(".") >= 2 for pattern in site.mx), site.mx
    # One limit for each thing: an operator's on the site must not be hidden by ours on the source.
    assert site.source.messages_per_connection is None


def test_no_host_is_of_two_providers() -> None:
    sites = make()

    for site in load_providers():
        for pattern in site.mx:
            assert match(sites, "x.test", pattern.replace("*", "host")) == site.name


def test_every_provider_names_where_its_values_are_from() -> None:
    text = (Path(module.__file__).parent / "providers.toml").read_text()

    entries = re.findall(r"(?m)((?:^#.*\n)*)^\[\[site\]\]\nname = \"(.+)\"", text)

    assert [name for _, name in entries] == [site.name for site in load_providers()]
    for comment, name in entries:
        assert re.search(r"KumoMTA|[a-z]+\.(com|net)/", comment), name


def test_error_in_the_shipped_table_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "providers.toml").write_text('[[site]]\nname = "google"\nconnection = 1\n')
    monkeypatch.setattr(module.importlib.resources, "files", lambda _: tmp_path)

    with pytest.raises(ConfigError) as caught:
        load_providers.__wrapped__()

    assert caught.value.problems == [
        "workers/providers.toml: site[0].connection: unknown key; did you mean connections?"
    ]


# -- notices


@pytest.mark.parametrize(
    ("sites", "notices"),
    [
        ([{"name": "google", "connections": 1}, {"name": "s", "domains": ["a.test"]}], []),
        ([{"name": "rest"}], ["site[0] (rest) has neither mx nor domains: it matches everything, the providers that we know are never looked at"]),
        (
            [{"name": "Gogle", "connections": 1}, {"name": "s", "domains": ["a.test"]}],
            ["site[0] (Gogle) has neither mx nor domains: it matches everything, the 1 after it and the providers that we know are never looked at; did you mean google?"],
        ),
    ],
)  # fmt: skip
def test_site_that_hides_others_is_noticed(sites: list[dict[str, Any]], notices: list[str]) -> None:
    assert list(find_notices(configure(*sites))) == notices


# -- whatever is configured

_LABEL = st.sampled_from(["a", "b", "mx", "big"])
_HOST = st.lists(_LABEL, min_size=1, max_size=3).map(lambda labels: ".".join([*labels, "test"]))
_PATTERN = st.one_of(_HOST, _HOST.map(lambda host: f"*.{host}"), st.just("*"))
_SITE = st.fixed_dictionaries(
    {
        "mx": st.lists(_PATTERN, max_size=2),
        "domains": st.lists(_PATTERN, max_size=2),
        "tls": st.sampled_from(["none", "opportunistic", "require", "verify"]),
    },
    optional={
        "connections": st.integers(1, 9),
        "messages_per_connection": st.integers(1, 9),
        "source": st.fixed_dictionaries({}, optional={"connections": st.integers(1, 9)}),
    },
)


@given(
    st.lists(_SITE, max_size=4),
    st.permutations(["one", "google", "yahoo", "two"]),
    _HOST,
    st.lists(_HOST | st.just("aspmx.l.google.com"), max_size=3),
)
def test_match_and_find_agree_and_every_term_is_filled(
    tables: list[dict[str, Any]], names: list[str], domain: str, hosts: list[str]
) -> None:
    sites = make(*({"name": n, **t} for n, t in zip(names, tables, strict=False)))

    terms = sites.match(domain, hosts)

    assert terms == sites.match(domain, hosts[::-1])
    if terms is not None:
        assert sites.find(terms.name) is terms
        assert terms.source_connections >= 1
        assert terms.messages_per_connection >= 1
        assert all(isinstance(wait, Seconds) and wait >= 1 for wait in terms.retry)
