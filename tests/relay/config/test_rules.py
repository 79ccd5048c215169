"""What is wrong with rules, scanners and footers, in words for people."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from relay.config import Config, read
from relay.config.rules import find_rule_notices
from relay.errors import ConfigError

_BASE = """
[[tenant]]
name = "acme"
domains = ["acme.example"]
networks = ["192.0.2.0/24"]
[[tenant]]
name = "other"
domains = ["other.example"]
networks = ["192.0.2.0/24"]
[[tenant.dkim]]
domain = "other.example"
selector = "s"
key_file = "/dev/null"
[[scanner]]
name = "virus"
kind = "clamd"
address = "unix:/run/clamd.ctl"
[[scanner]]
name = "spam"
kind = "rspamd"
address = "127.0.0.1:11333"
[[footer]]
name = "legal"
text = "Acme Ltd"
[archive]
directory = "/var/lib/archive"
"""


@pytest.fixture(autouse=True)
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text("key")
    return path


def _read(text: str, tmp_path: Path) -> Config:
    document = tomllib.loads(text.replace("/dev/null", str(tmp_path / "key")))
    return read(document, base=tmp_path, environment={})


def _problems(text: str, tmp_path: Path) -> list[str]:
    try:
        _read(text, tmp_path)
    except ConfigError as error:
        return error.problems
    return []


def _rule(text: str) -> str:
    return f"{_BASE}\n[[rule]]\nname = 'r'\n{text}"


# -- conditions


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ("tenants = ['acne']", "rule[0].tenants: no [[tenant]] named 'acne'; there is acme, other"),
        ("senders = ['acme.example']", """rule[0].senders: expected "news@acme.example", "*@acme.example" or "<>", got 'acme.example'"""),
        ("recipient_domains = ['a.*']", """rule[0].recipient_domains: expected "example.org", "*.example.org" or "*", got 'a.*'"""),
        ("larger_than = '2GiB'", "rule[0].larger_than: expected 0 to 1073741824, got 2147483648"),
        ("recipients_over = -1", "rule[0].recipients_over: expected 0 to 100000, got -1"),
        ("[[rule.header]]\nname = 'Sub ject'", "rule[0].header[0].name: expected the name of a header field, got 'Sub ject'"),
        ("[[rule.header]]\nname = 'S'\npattern = '('", "rule[0].header[0].pattern: missing ): ( (the syntax is RE2's: no look-around, no references to groups)"),
        (f"[[rule.header]]\nname = 'S'\npattern = '{'a' * 10001}'", "rule[0].header[0].pattern: expected at most 10000 characters, got 10001"),
        ("attachment_names = ['']", """rule[0].attachment_names: expected "*.exe", "invoice?.zip" or the like, got ''"""),
        (r'attachment_names = ["a\nb"]', r"""rule[0].attachment_names: expected "*.exe", "invoice?.zip" or the like, got 'a\nb'"""),
        ("attachment_names = ['*.exe', '[z-a]']", "rule[0].attachment_names: invalid character class range: z-a (the syntax is RE2's: no look-around, no references to groups)"),
        ("attachment_types = ['image']", """rule[0].attachment_types: expected "image/png" or "image/*", got 'image'"""),
        ("attachment_types = ['*/*']", """rule[0].attachment_types: expected "image/png" or "image/*", got '*/*'"""),
        ("results = ['infected']", "rule[0].results: needs a scanner to say it"),
        ("score = 0", "rule[0].score: needs a scanner to say it"),
        ("scanner = 'virus'", "rule[0].scanner: expected results or score with it: what must it say?"),
        ("scanner = 'vires'\nscore = 5", "rule[0].scanner: no [[scanner]] named 'vires'; there is spam, virus"),
        ("scanner = 'virus'\nscore = 5", "rule[0].score: only rspamd gives scores, virus is clamd"),
        ("scanner = 'virus'\nresults = ['bad']", """rule[0].results: expected "infected" or "clean", as clamd says, got 'bad'"""),
        ("scanner = 'spam'\nresults = [' ']", "rule[0].results: expected a word of the scanner's, got ' '"),
        ("scanner = 'spam'\nscore = inf", "rule[0].score: expected -1000000 to 1000000, got inf"),
        ("scanner = 'spam'\nscore = nan", "rule[0].score: expected -1000000 to 1000000, got nan"),
    ],
)  # fmt: skip
def test_condition_that_is_none(rule: str, problem: str, tmp_path: Path) -> None:
    assert _problems(_rule(rule), tmp_path) == [problem]


# -- what is done


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ("text = 'No'", 'rule[0].text: is said to who is rejected; action is "accept"'),
        ("action = 'reject'\ntext = '''a\nb'''", r"rule[0].text: expected one line of at most 200 printable ASCII characters, got 'a\nb'"),
        ("action = 'reject'\ntext = 'nö'", "rule[0].text: expected one line of at most 200 printable ASCII characters, got 'nö'"),
        ("action = 'reject'\npriority = 'bulk'", "rule[0].priority: nothing becomes of a message that is rejected; take it out"),
        ("action = 'reject'\ntls = 'verify'", "rule[0].tls: nothing becomes of a message that is rejected; take it out"),
        ("action = 'reject'\npool = 'default'", "rule[0].pool: nothing becomes of a message that is rejected; take it out"),
        ("action = 'reject'\narchive = true", "rule[0].archive: nothing becomes of a message that is rejected; take it out"),
        ("action = 'reject'\ncopy_to = ['a@b.example']", "rule[0].copy_to: nothing becomes of a message that is rejected; take it out"),
        ("action = 'reject'\nfooter = 'legal'", "rule[0].footer: nothing becomes of a message that is rejected; take it out"),
        ("action = 'reject'\ntag = {name = 'Subject', value = 'y'}", "rule[0].tag: nothing becomes of a message that is rejected; take it out"),
        ("pool = 'fast'", "rule[0].pool: no [pool.fast]; there is default"),
        ("copy_to = ['*@acme.example']", "rule[0].copy_to: expected an address (the domain in A-labels), got '*@acme.example'"),
        ("copy_to = ['acme.example']", "rule[0].copy_to: expected an address (the domain in A-labels), got 'acme.example'"),
        ("copy_to = ['a@grüße.example']", "rule[0].copy_to: expected an address (the domain in A-labels), got 'a@grüße.example'"),
        ("copy_to = ['ä@a.example']", "rule[0].copy_to: expected an address (the domain in A-labels), got 'ä@a.example'"),
        (r'copy_to = ["a@b.example\r\nDATA"]', r"rule[0].copy_to: expected an address (the domain in A-labels), got 'a@b.example\r\nDATA'"),
        ("tag = {name = 'X:', value = 'y'}", "rule[0].tag.name: expected the name of a header field, got 'X:'"),
        ("tag = {name = 'Received', value = 'y'}", "rule[0].tag.name: Received says how a message has travelled; expected another name"),
        (r'tag = {name = "X-A", value = "y\r\nBcc: z"}', r"rule[0].tag.value: expected one line of at most 500 characters, got 'y\r\nBcc: z'"),
        ("tag = {name = 'X-A', value = ''}", "rule[0].tag.value: expected one line of at most 500 characters, got ''"),
        ("tenants = ['other']\nfooter = 'illegal'", "rule[0].footer: no [[footer]] named 'illegal'; there is legal"),
    ],
)  # fmt: skip
def test_action_that_is_none(rule: str, problem: str, tmp_path: Path) -> None:
    assert _problems(_rule(rule), tmp_path) == [problem]


def test_archive_must_be_there(tmp_path: Path) -> None:
    text = _rule("archive = true").replace('directory = "/var/lib/archive"', "")

    assert _problems(text, tmp_path) == [
        "rule[0].archive: there is no archive; set [archive] directory or s3.bucket"
    ]


@pytest.mark.parametrize(
    "rule",
    [
        "",
        "action = 'reject'\ntext = 'Programs are not sent by mail here'",
        "action = 'hold'\non_error = 'reject'\ntext = 'Cannot be read'",
        "action = 'hold'\ncopy_to = ['Compliance@Acme.example']\narchive = true\ntls = 'verify'",
        "scanner = 'virus'\nresults = ['Infected']\naction = 'reject'",
        "scanner = 'spam'\nresults = ['add header']\nscore = 15",
        "scanner = 'spam'\nscore = -3.5",
        "tag = {name = 'X-Acme-Checked', value = 'geprüft'}",
        "tenants = ['other']\nfooter = 'legal'\ntag = {name = 'List-Id', value = '<a.other.example>'}",
        "attachment_names = ['*.exe', '*.[jw]s*']\nattachment_types = ['Image/*', 'application/x-msdownload']",
        "senders = ['*@Acme.example']\nrecipient_domains = ['*', '*.example.org']\nlarger_than = 0",
    ],
)
def test_rule_as_it_should_be(rule: str, tmp_path: Path) -> None:
    assert _problems(_rule(rule), tmp_path) == []


def test_name_is_well_formed_and_its_own(tmp_path: Path) -> None:
    text = _BASE + "\n[[rule]]\nname = 'a b'\n[[rule]]\nname = 'r'\n[[rule]]\nname = 'r'"

    assert _problems(text, tmp_path) == [
        f"rule[{number}].name: expected a name of its own (letters, digits, _ . -), got '{name}'"
        for number, name in ((0, "a b"), (2, "r"))
    ]


# -- what breaks signatures


_BOTH = "tenants = ['acme', 'other']\n"


@pytest.mark.parametrize(
    ("rule", "where"),
    [
        ("footer = 'legal'", "footer: a footer"),
        (f"{_BOTH}footer = 'legal'", "footer: a footer"),
        ("tag = {name = 'subject', value = 'x'}", "tag.name: one more subject"),
        ("tag = {name = 'List-Unsubscribe', value = 'x'}", "tag.name: one more List-Unsubscribe"),
        ("tag = {name = 'Content-Language', value = 'x'}", "tag.name: one more Content-Language"),
        ("tag = {name = 'Reply-To', value = 'x'}", "tag.name: one more Reply-To"),
    ],
)
def test_change_of_what_is_signed_needs_a_key(rule: str, where: str, tmp_path: Path) -> None:
    problem = (
        f"rule[0].{where} breaks the DKIM signatures of the mail it is put into, and there is no key "
        "to sign it again for acme: give each a [[tenant.dkim]], or name in rule[0].tenants only "
        "those that have one"
    )
    assert _problems(_rule(rule), tmp_path) == [problem]

    with_key = f"tenants = ['other']\n{rule.removeprefix(_BOTH)}"
    assert _problems(_rule(with_key), tmp_path) == []


# -- scanners and footers


def _scanner(**keys: Any) -> str:
    keys = {"name": "s", "kind": "clamd", "address": "127.0.0.1:3310"} | keys
    lines = "".join(f"{key} = {value!r}\n" for key, value in keys.items())
    return f"[[scanner]]\n{lines}"


@pytest.mark.parametrize(
    ("scanner", "problem"),
    [
        ({"name": ""}, "name: expected a name of its own (letters, digits, _ . -), got ''"),
        ({"address": "localhost"}, """address: expected "HOST:PORT" or "unix:/PATH", got 'localhost'"""),
        ({"address": "localhost:0"}, """address: expected "HOST:PORT" or "unix:/PATH", got 'localhost:0'"""),
        ({"kind": "rspamd", "address": "x"}, """address: expected "HOST:PORT" or "unix:/PATH", got 'x'"""),
        ({"address": "unix:x"}, """address: expected "unix:" and a whole path, as unix:/run/clamd.ctl, got 'unix:x'"""),
        ({"timeout": 0}, "timeout: expected 0.1 to 120 seconds, got 0"),
        ({"timeout": "5m"}, "timeout: expected 0.1 to 120 seconds, got 300"),
        ({"max_message": 10}, "max_message: expected 1024 to 1073741824, got 10"),
    ],
)  # fmt: skip
def test_scanner_that_is_none(scanner: dict[str, Any], problem: str, tmp_path: Path) -> None:
    assert _problems(_scanner(**scanner), tmp_path) == [f"scanner[0].{problem}"]


@pytest.mark.parametrize("address", ["unix:/run/clamd.ctl", "localhost:3310", "[::1]:3310"])
def test_scanner_as_it_should_be(address: str, tmp_path: Path) -> None:
    assert _problems(_scanner(address=address), tmp_path) == []


@pytest.mark.parametrize(
    ("footer", "problem"),
    [
        ("name = '/'\ntext = 'x'", "name: expected a name of its own (letters, digits, _ . -), got '/'"),
        ("name = 'f'\ntext = ' '", "text: expected a text"),
        ('name = "f"\ntext = "a\\u0000b"', "text: has a control character in it"),
        (f"name = 'f'\ntext = 'x'\nhtml = '{'x' * 65537}'", "html: expected at most 65536 characters, got 65537"),
    ],
)  # fmt: skip
def test_footer_that_is_none(footer: str, problem: str, tmp_path: Path) -> None:
    assert _problems(f"[[footer]]\n{footer}", tmp_path) == [f"footer[0].{problem}"]


def test_footer_has_lines(tmp_path: Path) -> None:
    assert _problems('[[footer]]\nname = "f"\ntext = "a\\r\\n\\tb\\nc"', tmp_path) == []


# -- notices


def _notices(rules: str, tmp_path: Path) -> list[str]:
    return list(find_rule_notices(_read(_BASE + rules, tmp_path)))


def test_rule_behind_one_that_takes_everything_is_told(tmp_path: Path) -> None:
    rules = """
    [[rule]]
    name = "first"
    larger_than = 5
    [[rule]]
    name = "a"
    tenants = ["acme"]
    [[rule]]
    name = "b"
    tenants = ["acme"]
    larger_than = 5
    [[rule]]
    name = "c"
    tenants = ["acme", "other"]
    [[rule]]
    name = "d"
    """

    assert _notices(rules, tmp_path) == [
        "rule b: is never reached, all its mail is taken before by a; put it in front",
        "rule d: is never reached, all its mail is taken before by a, c; put it in front",
    ]


def test_second_of_a_field_that_is_there_once_is_told(tmp_path: Path) -> None:
    rules = "[[rule]]\nname = 'r'\ntenants = ['other']\ntag = {name = 'Subject', value = 'x'}"

    assert _notices(rules, tmp_path) == [
        "rule r: a message has one Subject (RFC 5322 §3.6); many receivers refuse one with two"
    ]


def test_size_that_no_message_has_is_told(tmp_path: Path) -> None:
    rules = "[[rule]]\nname = 'r'\nlarger_than = '50MiB'"

    assert _notices(rules, tmp_path) == [
        "rule r: nothing is larger_than ingress.max_message, it never holds"
    ]


def test_nothing_is_told_of_what_is_well(tmp_path: Path) -> None:
    assert _notices("[[rule]]\nname = 'r'\nlarger_than = 5\n[[rule]]\nname = 's'", tmp_path) == []
