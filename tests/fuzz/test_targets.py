"""Every target holds on its seeds, on what is like them, and on anything; and so does who runs them."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import TARGETS
from tests.fuzz.run import Status, read_status
from tests.fuzz.target import cut, load_target

each_target = pytest.mark.parametrize("name", TARGETS)


@each_target
def test_seeds(name: str) -> None:
    target = load_target(name)

    assert target.SEEDS
    for seed in target.SEEDS:
        target.check(seed)


@st.composite
def _like(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed with a few places changed, or two put together, or anything."""
    octets = bytearray(draw(st.sampled_from(seeds))[:4096])
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(octets)))
        length = draw(st.integers(0, 5))
        octets[at : at + length] = draw(st.binary(max_size=6))
    if draw(st.booleans()):
        other = draw(st.sampled_from(seeds))[:4096]
        octets[draw(st.integers(0, len(octets))) :] = other[draw(st.integers(0, len(other))) :]
    return bytes(octets)


# What ``settings`` draws is Hypothesis' own: tests/relay/config/test_fuzz.py.
@pytest.mark.parametrize("name", [name for name in TARGETS if name != "settings"])
def test_what_is_like_the_seeds(name: str) -> None:
    target = load_target(name)
    check: Callable[[bytes], None] = target.check

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(_like(list(target.SEEDS)) | st.binary(max_size=200))
    def run(octets: bytes) -> None:
        check(octets)

    run()


@given(st.integers(0, 255), st.binary(max_size=300))
def test_what_is_cut_is_all_there(how: int, octets: bytes) -> None:
    portions = cut(how, octets)

    assert b"".join(portions) == octets
    assert how == 0 or all(len(portion) <= 23 for portion in portions)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("#2\tINITED cov: 7 ft: 9 corp: 1/1b exec/s: 0 rss: 52Mb\n", Status(2, 7, 9, 1, 0)),
        (
            "#19209\tREDUCE cov: 20 ft: 131 corp: 34/918b lim: 135 exec/s: 9604 rss: 52Mb L: 32/130\n",
            Status(19209, 20, 131, 34, 9604),
        ),
        ("INFO: Loaded 1 modules\n", None),
        ("==1== ERROR: libFuzzer: fuzz target exited\n", None),
    ],
)
def test_the_engines_status_is_read(line: str, status: Status | None) -> None:
    assert read_status(line) == status
