"""Mixes: those that ship are right, those of others are read, and what is wrong is said."""

from pathlib import Path

import pytest

from relay.errors import ConfigError
from workers.simulation.mix import list_mixes, load_mix, make_config, read_mix


@pytest.mark.parametrize("name", list_mixes())
def test_what_ships_is_right(name: str) -> None:
    mix = load_mix(name)

    assert mix.about
    assert {demand.provider for demand in mix.demand} == {p.name for p in mix.provider}
    assert make_config(mix, loop=True).reputation.enabled
    assert not make_config(mix, loop=False).reputation.enabled


def test_a_file_of_emulate_is_a_mix(tmp_path: Path) -> None:
    path = tmp_path / "providers.toml"
    path.write_text(
        'seed = 3\n[[provider]]\nname = "p"\nrate = "60/m"\nlisten = "127.0.0.1:2601"\n'
        '[feedback]\naddress = "fbl@feedback.example"\nhost = "127.0.0.1:2525"\n'
    )

    mix = read_mix(str(path))

    assert [(d.provider, d.daily) for d in mix.demand] == [("p", int(86400 * 3 * 0.8))]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x", "is not TOML"),
        ("", "at least one [[provider]]"),
        ('[[provider]]\nname = "p"\n[[demand]]\nprovider = "q"\ndaily = 1', "demand[0].provider"),
        ('[[provider]]\nname = "p"\nspeed = 3', "provider[0].speed"),
        ('[[provider]]\nname = "p"\n[[provider]]\nname = "p"', "p is there twice"),
        ('workers = 0\n[[provider]]\nname = "p"', "workers"),
    ],
)
def test_what_is_wrong_is_said_with_its_path(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "mix.toml"
    path.write_text(text)

    with pytest.raises(ConfigError) as caught:
        read_mix(str(path))

    assert problem in "\n".join(caught.value.problems)
    assert all(line.startswith(str(path)) for line in caught.value.problems)


def test_a_missing_file_and_a_missing_mix_are_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_mix(str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match="there is changing"):
        load_mix("none")
