import base64
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
import pytest

from relay.config import Config, Endpoint, Rate, Rates, find_notices, load, read
from relay.config.load import read_sites
from relay.errors import ConfigError

_EXAMPLE = Path(__file__).parents[3] / "deploy" / "outgate.example.toml"


def _read(text: str, base: Path = Path("/etc/outgate")) -> Config:
    return read(tomllib.loads(text), base=base, environment={})


def _problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        _read(text)
    return caught.value.problems


# Where a file comes from


def test_no_file_is_all_defaults() -> None:
    config = load(None, {})

    assert config.ingress.listen == (Endpoint("127.0.0.1", 2525),)
    assert [source.name for source in config.source] == ["default"]
    assert config.pool == {"default": {"default": 1}}


def test_file_is_found_through_the_environment(tmp_path: Path) -> None:
    (tmp_path / "o.toml").write_text("[ingress]\nprocesses = 3")

    assert load(None, {"OUTGATE_CONFIG": str(tmp_path / "o.toml")}).ingress.processes == 3


def test_argument_wins_over_the_environment(tmp_path: Path) -> None:
    (tmp_path / "o.toml").write_text("[ingress]\nprocesses = 3")

    config = load(str(tmp_path / "o.toml"), {"OUTGATE_CONFIG": "/nonexistent"})

    assert config.ingress.processes == 3


def test_store_url_is_found_in_the_environment_unless_the_file_has_one() -> None:
    environment = {"OUTGATE_STORE_URL": "redis://environment"}

    assert read({}, base=Path(), environment=environment).store.url == "redis://environment"
    document: dict[str, object] = {"store": {"url": "redis://file"}}
    assert read(document, base=Path(), environment=environment).store.url == "redis://file"


def test_one_password_of_the_store_is_enough(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("secret")
    document: dict[str, object] = {"store": {"password_file": "p"}}

    config = read(document, base=tmp_path, environment={"OUTGATE_STORE_URL": "redis://h"})
    assert config.store.password_file == str(tmp_path / "p")

    with pytest.raises(ConfigError, match=r"there is a password in store\.url"):
        read(document, base=tmp_path, environment={"OUTGATE_STORE_URL": "redis://:x@h"})


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "o.toml").write_text('state_dir = "s"')

    config = load(str(tmp_path / "o.toml"), {})

    assert config.state_dir == str(tmp_path / "s")
    assert config.log.events == str(tmp_path / "s" / "events.jsonl")


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read: No such file"), (b"a = ", "is not TOML"), (b"a = '\xff'", "is not TOML")],
)  # fmt: skip
def test_file_that_cannot_be_read(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "o.toml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError, match=f"^{re.escape(str(path))}: {said}"):
        load(str(path), {})


def test_problems_of_a_file_begin_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "o.toml"
    path.write_text("[ingress]\nlisen = []")

    with pytest.raises(ConfigError) as caught:
        load(str(path), {})

    assert caught.value.problems == [f"{path}: ingress.lisen: unknown key; did you mean listen?"]


# What is wrong with a file, in words for people


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("stor = 1", "stor: unknown key; did you mean store?"),
        ("xyz = 1", "xyz: unknown key"),
        ("store = 1", "store: expected a table, got 1"),
        ("pool = 1", "pool: expected a table, got 1"),
        ("tenant = {}", "tenant: expected tables headed [[tenant]], got a table"),
        ("store.url = 1", "store.url: expected a text in quotes, got 1"),
        ("store.url = 'localhost'", "store.url: expected redis://HOST:PORT/0, rediss://..., unix:///PATH, redis+sentinel://... or redis+cluster://..."),
        ("store.url = 'redis+sentinel://h'", "store.url: expected redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/0"),
        ("store.password_file = 'p'", "store.password_file: the embedded server has a password of its own; set store.url"),
        ("store = {url = 'redis://h', password_file = 'p'}", "store.password_file: no such file: /etc/outgate/p"),
        ("store.replicas = 1", "store.replicas: the embedded server has none; set store.url, or leave it at 0"),
        ("store.durability = 'no'", 'store.durability: expected "require" or "warn", got "no"'),
        ("store.memory_mark = '1'", 'store.memory_mark: expected a number, got "1"'),
        ("store.memory_mark = true", "store.memory_mark: expected a number, got true"),
        ("store.memory_mark = 2", "store.memory_mark: expected 0.1 to 1, got 2.0"),
        ("store.max_memory = 0", "store.max_memory: expected 16777216 to 4398046511104, got 0"),
        ("ingress.processes = '2'", 'ingress.processes: expected a whole number, got "2"'),
        ("ingress.processes = 2.5", "ingress.processes: expected a whole number, got 2.5"),
        ("ingress.processes = true", "ingress.processes: expected a whole number, got true"),
        ("ingress.processes = 0", "ingress.processes: expected 1 to 256, got 0"),
        ("ingress.chunking = 1", "ingress.chunking: expected true or false, got 1"),
        ("ingress.listen = '::1'", 'ingress.listen: expected a list in [ ], got "::1"'),
        ("ingress.listen = ['x']", "ingress.listen[0]: expected \"HOST:PORT\" or \"[IPv6]:PORT\", got 'x'"),
        ("ingress.listen = []", "ingress.listen: expected at least one address"),
        ("ingress.data_timeout = 'x'", "ingress.data_timeout: expected a duration such as \"30s\", \"5m\", \"4h\" or \"5d\", got 'x'"),
        ("ingress.data_timeout = '2h'", "ingress.data_timeout: expected 1 to 3600 seconds, got 7200.0"),
        ("ingress.tls.required = true", "ingress.tls.required: needs a certificate and a key"),
        ("ingress.tls.key = '/dev/null/x'", "ingress.tls.key: no such file: /dev/null/x"),
        ("delivery.retry = []", "delivery.retry: expected at least one duration"),
        ("delivery.retry = ['0s']", "delivery.retry: expected waits of at least 1s"),
        ("delivery.ca_file = 'x'", "delivery.ca_file: no such file: /etc/outgate/x"),
        ("pool.p = 1", "pool.p: expected a table, got 1"),
        ("pool.p.a = 'x'", 'pool.p.a: expected a whole number, got "x"'),
        ("pool.p.a = 1", "pool.p.a: no [[source]] of that name"),
        ("pool.p.default = 0", "pool.p: expected at least one source with a weight above 0"),
        ("[[route]]\ndomains=['x']", "route[0].hosts: missing"),
        ("[[site]]\nname='s'\nconnections='2'", 'site[0].connections: expected a whole number, got "2"'),
        ("[[site]]\nname='s'\n[site.source]\nconnection=2", "site[0].source.connection: unknown key; did you mean connections?"),
        ("[[site]]\nname='s'\nmx=['*google']", "site[0].mx: expected \"example.org\", \"*.example.org\" or \"*\", got '*google'"),
        ("[[source]]\nname='a'\naddress='x'", "source[0].address: expected an IP address, got 'x'"),
        ("[[tenant]]\nname='a'\ndomains=[]", "tenant[0].domains: expected at least one domain"),
        ("[[tenant]]\nname='a'\ndomains=['a.example']\npool='p'", "tenant[0].pool: no [pool.p]; there is default"),
        ("delivery.retry = [inf]", "delivery.retry[0]: expected a duration such as \"30s\", \"5m\", \"4h\" or \"5d\", got inf"),
        ("delivery.stalled = '500ms'", "delivery.stalled: expected 1 to 7776000 seconds, got 0.5"),
        ("delivery.expire = '4h'\ndelivery.delay_notice = '4h'", "delivery.delay_notice: expected less than delivery.expire (14400.0 seconds), or 0 for never, got 14400.0"),
        ("delivery.suppress_after = 101", "delivery.suppress_after: expected 0 to 100, got 101"),
        ("delivery.suppress_for = 0", "delivery.suppress_for: expected 1 to 316224000 seconds, got 0.0"),
        ("[[site]]\nname='s'\nretry=['1m', '10ms']", "site[0].retry: expected waits of at least 1s"),
        ("[[site]]\nname='s'\nconnections=0", "site[0].connections: expected 1 to 1000000, got 0"),
        ("[[site]]\nname='s'\n[site.source]\nmessages_per_connection=-1", "site[0].source.messages_per_connection: expected 1 to 1000000, got -1"),
        ("[[site]]\nname='s'\nrate=['1/s', '2/s']", "site[0].rate: expected at least one rate, and one for each unit, got ['1/s', '2/s']"),
        ("[[site]]\nname='a/b'", "site[0].name: expected a name of its own (letters, digits, _ . -), got 'a/b'"),
        ("[[site]]\nname='s'\n[[site]]\nname='s'", "site[1].name: expected a name of its own (letters, digits, _ . -), got 's'"),
        ("[[tenant]]\nname='a'\ndomains=['a.example']\npriority='high'", 'tenant[0].priority: expected "urgent" or "normal" or "bulk", got "high"'),
        ("[[tenant]]\nname='a'\ndomains=['a.example']\npriority_header='X Y'", "tenant[0].priority_header: expected the name of a header field, got 'X Y'"),
        ("[[tenant]]\nname='a'\ndomains=['a.example']\n[[tenant.priority_rule]]\nsenders=['*@a.example']", "tenant[0].priority_rule[0].priority: missing"),
        ("[[tenant]]\nname='a'\ndomains=['a.example']\n[[tenant.priority_rule]]\nsenders=[]\npriority='bulk'", "tenant[0].priority_rule[0].senders: expected at least one sender"),
        ("[[tenant]]\nname='a'\ndomains=['a.example']\nproof=['dkm']", 'tenant[0].proof[0]: expected "dkim" or "header", got "dkm"'),
    ],
)  # fmt: skip
def test_problem_is_named_with_its_path(text: str, problem: str) -> None:
    assert problem in _problems(f"ingress.hostname = 'g.example'\n{text}")


@pytest.mark.parametrize(
    "sender",
    ["acme.example", "@acme.example", "*", "n*@acme.example", "a@b@acme.example", "*@*.acme.example",
     "a b@acme.example", "news@", "news@-acme.example", "news@acme..example"],
)  # fmt: skip
def test_rule_for_a_sender_of_another_form_is_refused(sender: str) -> None:
    text = (
        "[[tenant]]\nname='a'\ndomains=['a.example']\n[[tenant.priority_rule]]\npriority='bulk'\n"
    )

    problems = _problems(f"{text}senders=[{sender!r}]")

    (problem,) = problems
    assert problem.startswith("tenant[0].priority_rule[0].senders: expected")
    assert problem.endswith(f", got {sender!r}")


def test_rules_are_in_lower_case() -> None:
    text = (
        "[[tenant]]\nname='a'\ndomains=['a.example']\n[[tenant.priority_rule]]\npriority='bulk'\n"
    )

    rule = _read(f"{text}senders=['News@Acme.Example', '*@A.example']").tenant[0].priority_rule[0]

    assert rule.senders == ("news@acme.example", "*@a.example")


def _source(**keys: str) -> str:
    lines = "\n".join(f"{key} = '{value}'" for key, value in keys.items())
    return f"ingress.hostname = 'g.example'\n[[source]]\nname='a'\n{lines}"


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"proxy": "http://p.example:80"}, "source[0].proxy: expected \"socks5://HOST:PORT\""),
        ({"proxy": "socks5://me:secret@p.example:1080"}, "source[0].proxy: expected"),
        ({"proxy": "socks5://me@p.example:1080"}, "source[0].proxy_password_file: missing; the proxy knows us as 'me'"),
        ({"proxy": "socks5://me@p.example:1080", "proxy_password_file": "gone"}, "source[0].proxy_password_file: no such file: /etc/outgate/gone"),
        ({"proxy": "socks5://p.example:1080", "proxy_password_file": "/dev/null"}, "source[0].proxy_password_file: needs a proxy of the form socks5://USER@HOST:PORT"),
        ({"proxy_password_file": "/dev/null"}, "source[0].proxy_password_file: needs a proxy"),
        ({"address": "0.0.0.0", "proxy": "haproxy://p.example:1"}, "source[0].address: a haproxy:// proxy must be told an address, got '0.0.0.0'"),
    ],
)  # fmt: skip
def test_proxy_that_cannot_be_used_is_refused(keys: dict[str, str], problem: str) -> None:
    problems = _problems(_source(**{"address": "192.0.2.1", **keys}))

    assert any(said.startswith(problem) for said in problems), problems
    assert "secret" not in "".join(problems)


def test_password_of_a_proxy_is_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "word").write_text("x")
    keys = {"address": "192.0.2.1", "proxy": "socks5://me@[2001:db8::1]:1080"}

    source = _read(_source(**keys, proxy_password_file="word"), tmp_path).source[0]

    assert source.proxy_password_file == str(tmp_path / "word")


# Sites by themselves


def test_sites_are_read_by_the_same_rules() -> None:
    text = "[[site]]\nname='s'\nmx=['*.MX.example.']\nrate=['20000/d', '100/s']"

    (site,) = read_sites(tomllib.loads(text))

    assert site == _read(text).site[0]
    assert site.mx == ("*.mx.example",)
    assert site.rate == Rates((Rate(100, 1), Rate(20_000, 86_400)))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[sites]]\nname='s'", "sites: unknown key; did you mean site?"),
        ("[[site]]\nname='s'\nconnections=0", "site[0].connections: expected 1 to 1000000, got 0"),
    ],
)
def test_sites_with_problems_are_refused(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_sites(tomllib.loads(text))

    assert caught.value.problems == [problem]


def test_every_problem_is_named_at_once() -> None:
    text = (
        "stat_dir = 1\n[ingress]\nprocesses = 'x'\nlisten = ['a']\n[[tenant]]\n[dns]\ntimeout = -1"
    )

    paths = [problem.partition(":")[0] for problem in _problems(text)]

    assert paths == [
        "stat_dir", "ingress.processes", "ingress.listen[0]", "tenant[0].name", "tenant[0].domains",
        "dns.timeout",
    ]  # fmt: skip


def test_domain_of_two_tenants_is_refused() -> None:
    text = (
        "[[tenant]]\nname='a'\ndomains=['A.example']\n[[tenant]]\nname='b'\ndomains=['a.example']"
    )

    assert _problems(text) == ["tenant[1].domains: a.example belongs to tenant 'a' already"]


def test_what_is_no_domain_belongs_to_nobody() -> None:
    text = """
        [[tenant]]
        name = "a"
        domains = [""]
        [[tenant]]
        name = "b"
        domains = [""]
    """
    assert _problems(text) == [
        f"tenant[{number}].domains: expected a domain (in A-labels), got ''" for number in (0, 1)
    ]


def test_demand_for_proof_that_cannot_be_met_is_never_ignored(tmp_path: Path) -> None:
    # To start without checking it would make the relay more open than its owner asked for.
    tenant = "[[tenant]]\nname='a'\ndomains=['a.example']\n"

    problems = _problems(f"{tenant}proof=['header']")
    assert [problem.partition(":")[0] for problem in problems] == [
        "tenant[0].header",
        "tenant[0].header_secret_file",
    ]
    (tmp_path / "secret").write_text("guess-me\n")
    with pytest.raises(ConfigError) as caught:
        _read(f"{tenant}proof=['header']\nheader='X-A'\nheader_secret_file='secret'", tmp_path)
    (problem,) = caught.value.problems
    assert "at least 16 characters" in problem
    assert "guess-me" not in problem


def test_notices_name_what_is_not_enforced() -> None:
    text = """
        [[tenant]]
        name = 'a'
        domains = ['a.example']
        [store]
        durability = 'warn'
    """

    said = "\n".join(find_notices(_read(text)))

    for expected in ("Google", "STARTTLS", "store.durability"):
        assert expected in said


@pytest.mark.parametrize(
    ("domain", "more", "is_told"),
    [
        ("acme.example", "", False),
        ("acme.co.example", "", True),  # acme-co.example
        ("my-shop.example", "", True),  # my.shop.example
        ("acme.co.example", "dkim_fallback = false", False),
    ],
)
def test_a_name_of_googles_that_two_domains_have_is_noticed(
    domain: str, more: str, is_told: bool
) -> None:
    text = f"[[tenant]]\nname = 'a'\nproof = ['dkim']\ndomains = ['{domain}']\n{more}"

    said = [line for line in find_notices(_read(text)) if "gappssmtp" in line]

    assert len(said) == is_told
    assert all(domain in line for line in said)


@pytest.mark.parametrize("required", [False, True])
def test_a_secret_that_can_come_in_clear_is_noticed(tmp_path: Path, required: bool) -> None:
    for name in ("secret", "cert", "key"):
        (tmp_path / name).write_text("0123456789abcdef")
    text = (
        "[ingress.tls]\ncertificate = 'cert'\nkey = 'key'\n"
        f"required = {str(required).lower()}\n"
        "[[tenant]]\nname = 'a'\ndomains = ['a.example']\nproof = ['header']\n"
        "header = 'X-A'\nheader_secret_file = 'secret'"
    )

    assert any("in clear" in line for line in find_notices(_read(text, tmp_path))) is not required


@pytest.mark.parametrize(
    ("more", "is_told"),
    [("", False), ("[archive]\ndirectory = 'kept'", True), ("[[rule]]\nname = 'r'", True)],
)
def test_memory_in_which_the_largest_message_does_not_fit_is_noticed(
    more: str, is_told: bool
) -> None:
    text = "[ingress]\nmax_message = '10MiB'\nmemory = '19MiB'\n" + more

    assert any("ingress.memory" in line for line in find_notices(_read(text))) is is_told
    enough = text.replace("19MiB", "20MiB")
    assert not any("ingress.memory" in line for line in find_notices(_read(enough)))


# The example is the manual: what it says must be so


def _uncommented() -> str:
    return re.sub(r"(?m)^#(?=[\w\[])", "", _EXAMPLE.read_text())


def test_example_states_the_defaults() -> None:
    plain = tomllib.loads(_EXAMPLE.read_text())
    stated = read(plain, base=Path("/x"), environment={})

    assert stated == read({}, base=Path("/x"), environment={})


def test_example_loads_with_every_line_taken_in(tmp_path: Path) -> None:
    names = re.findall(r'"((?:tls|secrets)/[\w.-]+)"', _uncommented())
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        # Good for a secret and for a key of 32 octets.
        (tmp_path / name).write_text(base64.b64encode(bytes(32)).decode())

    config = _read(_uncommented(), base=tmp_path)

    assert config.tenant[0].name == "acme"
    assert config.tenant[0].priority_rule[0].priority == "bulk"
    assert config.pool == {"default": {"a": 2, "b": 1}}
    assert config.source[1].proxy_password_file == str(tmp_path / "secrets" / "proxy-b")


def _keys(section: Any, path: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(section):
        inner = [t for t in (field.type, *get_args(field.type)) if isinstance(t, type)]
        tables = [t for t in inner if issubclass(t, msgspec.Struct)]
        if tables:
            named = "*." if get_origin(field.type) is dict else ""
            yield from _keys(tables[0], f"{path}{field.name}.{named}")
        else:
            yield f"{path}{field.name}"


def _mentions(found: Any, key: list[str]) -> bool:
    if isinstance(found, list):
        return any(_mentions(table, key) for table in found)
    if key[:1] == ["*"]:
        return any(_mentions(table, key[1:]) for table in found.values())
    return not key or (key[0] in found and (len(key) == 1 or _mentions(found[key[0]], key[1:])))


@pytest.mark.parametrize("key", list(_keys(Config)))
def test_example_mentions_every_key(key: str) -> None:
    assert _mentions(tomllib.loads(_uncommented()), key.split("."))


@pytest.mark.parametrize("key", ["tenant.prioriti", "site.source.rates", "sito.name"])
def test_a_key_that_is_not_there_is_missed(key: str) -> None:
    assert not _mentions(tomllib.loads(_uncommented()), key.split("."))


def test_what_is_no_balancers_network_is_refused() -> None:
    assert _problems('[ingress]\nproxies = ["192.0.2.0/24", "lb.example"]')[0].startswith(
        "ingress.proxies[1]: expected an address or a network"
    )


# Whatever somebody writes


def _load(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "o.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(str(file), {})
    return [problem.removeprefix(f"{file}: ") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = " + "9" * 5000, "is not TOML: Exceeds the limit"),
        ("x = " + "[" * 2000, "is not TOML that can be read: nested too deep"),
        ("store.timeout = 0x" + "f" * 400, "store.timeout: expected a number that fits"),
        ("store.max_memory = 0x" + "f" * 4000, "store.max_memory: expected a number that fits"),
        ("store.memory_mark = 0x" + "f" * 400, "store.memory_mark: expected a number that fits"),
    ],
)
def test_what_python_gives_up_on_is_an_error(tmp_path: Path, text: str, said: str) -> None:
    (problem,) = _load(tmp_path, text)

    assert problem.startswith(said)


@pytest.mark.parametrize("key", ["ingress.tls.key", "delivery.ca_file", "audit.key_file"])
def test_file_of_a_name_that_is_too_long_is_not_there(key: str) -> None:
    problems = _problems(f'audit.directory = "x"\n{key} = "{"k" * 300}"')

    assert problems[0].startswith(f"{key}: no such file: ")


def test_a_problem_is_a_line_whatever_it_quotes() -> None:
    problems = _problems(
        '"a\\nb" = 1\n[pool."x: y"]\n"\\u202e" = true\n[delivery]\nca_file = "\\u001b[2J"'
    )
    assert problems == [
        '"a\\nb": unknown key',
        'pool."x: y"."\\u202e": expected a whole number, got true',
    ]
    assert _problems('[delivery]\nca_file = "\\u001b[2J"')[-1].endswith("\\x1b[2J")


def test_pool_with_a_dot_in_its_name_has_quotes_in_its_path() -> None:
    assert 'pool."a.b".x: no [[source]] of that name' in _problems('[pool."a.b"]\nx = 1')
