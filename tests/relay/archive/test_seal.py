import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.archive import form
from relay.archive.entry import complete
from relay.archive.name import Place, find_place
from relay.archive.seal import Keys, read_keys
from relay.errors import ArchiveDamaged, StartError
from tests.kit.archive import MESSAGE, make, write_keys

ONE, TWO = os.urandom(32), os.urandom(32)
ENTRY = make()
PLACE = find_place(ENTRY.tenant, ENTRY.id)


def pack(*keys: bytes, message: bytes = MESSAGE, place: Place = PLACE) -> bytes:
    entry = complete(ENTRY, message)
    return b"".join(form.pack(place, entry, message, Keys(list(keys)) if keys else None))


@given(st.binary(max_size=2000))
def test_what_is_kept_is_what_came(message: bytes) -> None:
    for keys in ((), (ONE,)):
        octets = pack(*keys, message=message)
        entry, got = form.unpack(PLACE, octets, Keys(list(keys)) if keys else None)

        assert got == message
        assert entry.size == len(message)
        assert form.unpack_entry(PLACE, octets[: form.measure(octets)], Keys([ONE])) == entry


def test_nothing_shows_through_a_seal() -> None:
    octets = pack(ONE)

    for word in (b"acme", b"example", b"hello", b"Subject", b"format"):
        assert word not in octets
    assert pack(ONE) != octets  # nor that two are the same


def test_any_changed_octet_is_found() -> None:
    octets = pack(ONE)

    for at in range(len(octets)):
        changed = bytearray(octets)
        changed[at] ^= 1
        with pytest.raises(ArchiveDamaged):
            form.unpack(PLACE, bytes(changed), Keys([ONE]))


def test_a_changed_message_in_clear_is_found() -> None:
    octets = pack()

    with pytest.raises(ArchiveDamaged, match="digest differs"):
        form.unpack(PLACE, octets.replace(b"hello", b"hullo"), None)


@given(st.data())
def test_what_is_cut_off_is_found(data: st.DataObject) -> None:
    for keys in ((), (ONE,)):
        octets = pack(*keys)
        cut = octets[: data.draw(st.integers(0, len(octets) - 1))]
        with pytest.raises(ArchiveDamaged):
            form.unpack(PLACE, cut, Keys([ONE]))


@given(st.binary(max_size=200))
def test_nonsense_is_found(octets: bytes) -> None:
    for begin in (b"", b"OGSEAL1\n", b"{"):
        with pytest.raises(ArchiveDamaged):
            form.unpack(PLACE, begin + octets, Keys([ONE]))


@pytest.mark.parametrize("keys", [(), (ONE,)])
def test_objects_cannot_be_swapped(keys: tuple[bytes, ...]) -> None:
    other = make()
    octets = pack(*keys)

    for place in (
        find_place("acme", other.id),
        find_place("globex", ENTRY.id),
    ):
        with pytest.raises(ArchiveDamaged):
            form.unpack(place, octets, Keys([ONE]))


def test_head_and_message_of_two_objects_do_not_fit() -> None:
    one, two = pack(ONE), pack(ONE)
    mixed = one[: form.measure(one)] + two[form.measure(two) :]

    with pytest.raises(ArchiveDamaged, match="seal is broken"):
        form.unpack(PLACE, mixed, Keys([ONE]))


def test_a_new_key_goes_first_and_the_old_one_still_opens() -> None:
    before = pack(ONE)
    after = pack(TWO, ONE)

    for octets in (before, after):
        assert form.unpack(PLACE, octets, Keys([TWO, ONE]))[1] == MESSAGE
    with pytest.raises(ArchiveDamaged, match=r"which archive.key_file has not"):
        form.unpack(PLACE, after, Keys([ONE]))
    with pytest.raises(ArchiveDamaged, match=r"archive.key_file is not set"):
        form.unpack(PLACE, after, None)


def test_what_is_older_than_the_key_is_read() -> None:
    assert form.unpack(PLACE, pack(), Keys([ONE]))[1] == MESSAGE


# -- key files


def test_key_file(tmp_path: Path) -> None:
    keys = read_keys(write_keys(tmp_path / "keys", TWO, ONE))

    assert keys is not None
    assert form.unpack(PLACE, pack(ONE), keys)[1] == MESSAGE
    assert read_keys("") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("c2hvcnQ=", "line 1: expected 32 octets"),
        ("\nx y z !", "line 2: expected 32 octets"),
        ("A" * 44, "line 1"),
    ],
)
def test_bad_key_files(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "keys").write_text(text)

    with pytest.raises(StartError, match=said) as caught:
        read_keys(str(tmp_path / "keys"))
    assert "x y z" not in str(caught.value)  # it may be a key, but for a letter


def test_a_key_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot be read: No such file"):
        read_keys(str(tmp_path / "keys"))
