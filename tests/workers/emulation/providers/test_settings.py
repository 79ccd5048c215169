"""The providers' file: what comes with the program, and what is said about a wrong one."""

from pathlib import Path

import pytest

from relay.errors import ConfigError
from workers.emulation.providers.settings import load_settings


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "providers.toml"
    path.write_text(text)
    return str(path)


def test_those_that_come_with_the_program() -> None:
    settings = load_settings(None)

    assert {"google", "microsoft", "yahoo", "apple"} <= {one.name for one in settings.provider}
    assert any(one.greylist for one in settings.provider)
    assert any(one.allowance for one in settings.provider)
    assert {one.tls for one in settings.provider} == {"none", "offered", "required"}
    assert all(one.domains and one.listen for one in settings.provider)


def test_all_keys_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        seed = 7
        [feedback]
        address = "fbl@feedback.example"
        host = "127.0.0.1:2525"
        [[provider]]
        name = "big"
        style = "yahoo"
        domains = ["Big.test"]
        listen = "[::1]:2601"
        rate = ["10/s burst 5", "20000/d"]
        changes = [{ at = "6h", rate = "5/s" }]
        blocked = [{ address = "127.0.0.2", at = "1h", lasts = "2h" }]
        [provider.complaints]
        senders = { "Spam.test" = 0.1 }
        """,
    )
    settings = load_settings(path)
    profile = settings.provider[0]

    assert settings.seed == 7
    assert profile.domains == ("big.test",)
    assert profile.complaints.senders == {"spam.test": 0.1}
    assert repr(profile.rate) == "10/s burst 5, 20000/d"
    assert profile.changes[0].at == 21600
    assert profile.blocked[0].lasts == 7200


ONE = '[[provider]]\nname = "big"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "provider: expected 1 to 1000 tables headed [[provider]]"),
        ("[[provider]]\n", "provider[0].name: missing"),
        ("x", "is not TOML"),
        (ONE + "rates = 1", "provider[0].rates: unknown key; did you mean rate?"),
        (ONE + 'rate = "10"', "provider[0].rate: expected a rate such as"),
        (ONE + 'style = "gogle"', "provider[0].style: expected apple, comcast, generic"),
        (ONE + 'style = "gogle"', "did you mean google?"),
        (ONE + 'listen = "0.0.0.0:25"', "provider[0].listen: expected an address of this machine"),
        (ONE + 'listen = "192.0.2.1:25"', "provider[0].listen: expected an address of this"),
        (ONE + 'domains = ["a b"]', "provider[0].domains: expected a domain, got 'a b'"),
        (ONE + ONE, "provider[1].name: big is already provider[0].name"),
        (ONE + "unknown = 1.5", "provider[0].unknown: expected a share from 0 to 1, got 1.5"),
        (ONE + "connections = -1", "provider[0].connections: expected 0 (none) or more, got -1"),
        (ONE + "block = { after = 3 }", "provider[0].block.after: counts attempts within"),
        (
            ONE + 'escalation = { penalty = "1h", maximum = "1m" }',
            "provider[0].escalation.maximum: expected at least the penalty",
        ),
        (ONE + "escalation = { factor = 0.5 }", "provider[0].escalation.factor: expected 1 to"),
        (ONE + "allowance = { first = 5 }", "provider[0].allowance.maximum: missing"),
        (ONE + "allowance = { first = 5, maximum = 4 }", "provider[0].allowance: expected first"),
        (
            ONE + 'blocked = [{ address = "here", lasts = "1h" }]',
            "provider[0].blocked[0].address: expected an IP address, got 'here'",
        ),
        (
            ONE + '[feedback]\naddress = "fbl"\nhost = "127.0.0.1:25"',
            "feedback.address: expected a mailbox such as",
        ),
        (
            ONE + '[feedback]\naddress = "a@b.test\\r\\nX: y"\nhost = "127.0.0.1:25"',
            "feedback.address: expected a mailbox such as",
        ),
        (
            ONE + '[feedback]\naddress = "a@b.test"\nhost = "192.0.2.1:25"',
            "feedback.host: expected an address of this machine for itself",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)

    with pytest.raises(ConfigError) as caught:
        load_settings(path)

    assert all(problem.startswith(f"{path}: ") for problem in caught.value.problems)
    assert said in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_settings(str(tmp_path / "none.toml"))
