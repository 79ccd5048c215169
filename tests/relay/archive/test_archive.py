"""Putting and reading, in every kind of archive; what a crash, a full disk and a lost bucket do."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import trio

from relay.archive import Copies, Entry, open_archive, open_copies
from relay.archive.directory import Directory
from relay.archive.name import find_place
from relay.archive.vault import Vault
from relay.config import Config, read
from relay.errors import ArchiveDamaged, ArchiveUnavailable, StartError
from tests.kit.archive import DAY, MESSAGE, find_objects, make, write_keys
from tests.kit.s3 import S3Server, find_closed, make_settings, open_silent
from tests.relay.archive.conftest import Maker

_ROOT = Path(__file__).parents[3]


async def get(vault: Vault, entry: Entry) -> bytes | None:
    got = await vault.read_message(find_place(entry.tenant, entry.id))
    if got is None:
        return None
    found = got[0].entry
    assert found is not None
    same = msgspec.structs.replace(found, size=0, digest="", message_id="")
    assert same == entry
    return got[1]


async def test_put_is_in_every_copy_when_it_returns(archive: Copies) -> None:
    entry = make()

    await archive.put(entry, MESSAGE)

    for vault in archive.vaults:
        assert await get(vault, entry) == MESSAGE
        assert await get(vault, make()) is None


async def test_a_large_message(archive: Copies) -> None:
    message = os.urandom(1 << 20) * 36
    entry = make()

    await archive.put(entry, message)

    for vault in archive.vaults:
        assert await get(vault, entry) == message
        (found,) = await vault.read_entries([find_place("acme", entry.id)])
        assert found.sealed
        assert found.entry is not None
        assert found.entry.size == len(message)


async def test_many_recipients(archive: Copies) -> None:
    entry = make(*(f"person-{n}@example.com" for n in range(5000)))

    await archive.put(entry, MESSAGE)

    for vault in archive.vaults:
        (found,) = await vault.read_entries([find_place("acme", entry.id)])
        assert found.entry is not None
        assert found.entry.recipients == entry.recipients


async def test_many_recipients_in_clear(make_archive: Maker) -> None:
    archive = make_archive(directory="archive")
    entry = make(*(f"person-{n}@example.com" for n in range(5000)))

    await archive.put(entry, MESSAGE)

    (found,) = await archive.vaults[0].read_entries([find_place("acme", entry.id)])
    assert found.entry is not None
    assert len(found.entry.recipients) == 5000


async def test_the_same_id_again_is_the_same(archive: Copies) -> None:
    entry = make()

    for _ in range(3):
        await archive.put(entry, MESSAGE)

    for vault in archive.vaults:
        assert await get(vault, entry) == MESSAGE
        day = find_place("acme", entry.id).day
        assert len(await vault.list_places("acme", day)) == 1


async def test_the_wrong_key(make_archive: Maker, tmp_path: Path) -> None:
    entry = make()
    await make_archive(directory="archive", key_file=write_keys(tmp_path / "keys")).put(
        entry, MESSAGE
    )

    (vault,) = make_archive(directory="archive", key_file=write_keys(tmp_path / "others")).vaults

    with pytest.raises(ArchiveDamaged, match=r"which archive\.key_file has not"):
        await get(vault, entry)
    (found,) = await vault.read_entries([find_place("acme", entry.id)])
    assert found.entry is None
    assert "which archive.key_file has not" in found.damage


async def test_in_clear_an_object_is_a_line_and_a_message(
    make_archive: Maker, tmp_path: Path
) -> None:
    archive = make_archive(directory="archive")
    entry = make()

    await archive.put(entry, MESSAGE)

    (path,) = find_objects(tmp_path / "archive")
    line, _, message = path.read_bytes().partition(b"\n")
    assert path == tmp_path / "archive" / find_place("acme", entry.id).name
    assert msgspec.json.decode(line)["sender"] == "s@acme.example"
    assert message == MESSAGE


async def test_the_archive_is_its_owners(make_archive: Maker, tmp_path: Path) -> None:
    archive = make_archive(directory="archive")
    await archive.put(make(), MESSAGE)

    for path in [tmp_path / "archive", *(tmp_path / "archive").rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)


async def test_a_day_that_a_purge_took_away_is_made_again(
    make_archive: Maker, tmp_path: Path
) -> None:
    archive = make_archive(directory="archive")
    entry = make()
    await archive.put(entry, MESSAGE)
    name = find_place("acme", entry.id).name

    await archive.vaults[0].remove([name])
    assert not (tmp_path / "archive" / name).parent.exists()
    await archive.put(entry, MESSAGE)

    assert await get(archive.vaults[0], entry) == MESSAGE


async def test_several_at_a_time(archive: Copies) -> None:
    entries = [make() for _ in range(100)]

    async with trio.open_nursery() as nursery:
        for entry in entries:
            nursery.start_soon(archive.put, entry, MESSAGE)

    for vault in archive.vaults:
        for entry in entries:
            assert await get(vault, entry) == MESSAGE


# -- crashes

# Puts a message, and kills itself at a call of the directory's that is named on the command line.
_CHILD = """
import os, signal, sys, trio
from pathlib import Path
from relay.archive import open_archive
from relay.config import read
from tests.kit.archive import make

directory, call, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
archive = open_archive(read({"archive": {"directory": directory}}, base=Path(), environment={}))
entry = make()
print(entry.id, flush=True)
true = getattr(os, call)

def die(*arguments):
    global number
    number -= 1
    if number:
        return true(*arguments)
    if call == "write":
        true(arguments[0], arguments[1][: len(arguments[1]) // 2])
    elif call == "rename":
        true(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(os, call, die)
trio.run(archive.put, entry, bytes(1 << 20))
"""


@pytest.mark.parametrize(
    ("call", "number", "is_there"),
    [
        ("write", 1, False),  # half of the head
        ("write", 2, False),  # half of the message
        ("fsync", 1, False),  # all of it, not synced
        ("fsync", 2, False),  # synced, and no folder for it yet
        ("rename", 1, True),  # renamed, and the folder not synced
        ("fsync", 4, True),
    ],
)
def test_a_crash_leaves_no_half_object(
    tmp_path: Path, call: str, number: int, *, is_there: bool
) -> None:
    base = tmp_path / "archive"
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(base), call, str(number)],
        cwd=_ROOT,
        capture_output=True,
        check=False,
    )
    assert done.returncode == -9, done.stderr.decode()

    objects = list(find_objects(base))
    drafts = list((base / ".tmp").iterdir())
    assert (len(objects), len(drafts)) == ((1, 0) if is_there else (0, 1))
    if is_there:
        assert objects[0].name == f"{done.stdout.decode().strip()}.mail"
        assert objects[0].read_bytes().partition(b"\n")[2] == bytes(1 << 20)


def test_what_a_crash_left_is_swept_a_day_later(make_archive: Maker, tmp_path: Path) -> None:
    make_archive(directory="archive")
    drafts = tmp_path / "archive" / ".tmp"
    for name, age in (("old", 1.1 * DAY), ("new", 0.9 * DAY)):
        (drafts / name).write_bytes(b"half")
        os.utime(drafts / name, (time.time() - age,) * 2)

    make_archive(directory="archive")

    assert [path.name for path in drafts.iterdir()] == ["new"]


# -- trouble

_LIMITED = """
import resource, sys, trio
from pathlib import Path
from relay.archive import open_archive
from relay.config import read
from relay.errors import ArchiveUnavailable
from tests.kit.archive import make

archive = open_archive(read({"archive": {"directory": sys.argv[1]}}, base=Path(), environment={}))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
trio.run(archive.put, make(), bytes(50_000))
try:
    trio.run(archive.put, make(), bytes(1 << 20))
except ArchiveUnavailable as error:
    print(error)
"""


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path / "archive")],
        cwd=_ROOT,
        capture_output=True,
        check=True,
    )

    assert re.search(r"could not take acme/.*\.mail: File too large", done.stdout.decode())
    assert len(list(find_objects(tmp_path / "archive"))) == 1
    assert not list((tmp_path / "archive/.tmp").iterdir())


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to mount a small file system")
async def test_a_full_disk(make_archive: Maker, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "outgate", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mount is not allowed here")
    try:
        archive = make_archive(directory="disk/archive")
        with pytest.raises(ArchiveUnavailable, match="No space left on device"):
            await archive.put(make(), bytes(2 << 20))
        assert not list((disk / "archive/.tmp").iterdir())

        entry = make()
        await archive.put(entry, bytes(1 << 19))
        assert await get(archive.vaults[0], entry) == bytes(1 << 19)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


async def test_a_directory_that_has_gone(make_archive: Maker, tmp_path: Path) -> None:
    archive = make_archive(directory="archive")
    (tmp_path / "archive").rename(tmp_path / "elsewhere")

    with pytest.raises(ArchiveUnavailable, match="No such file or directory"):
        await archive.put(make(), MESSAGE)


@pytest.mark.parametrize("kind", ["closed", "silent"])
async def test_a_bucket_that_is_away_or_says_nothing(
    make_archive: Maker, tmp_path: Path, kind: str
) -> None:
    with open_silent() as silent:
        endpoint = silent if kind == "silent" else find_closed()
        archive = make_archive(s3=make_settings(tmp_path, endpoint), timeout="1s")
        started = trio.current_time()
        with pytest.raises(ArchiveUnavailable, match="bucket mail"):
            await archive.put(make(), MESSAGE)

        assert trio.current_time() - started < 2


async def test_a_bucket_that_is_not_there(
    make_archive: Maker, tmp_path: Path, s3: S3Server
) -> None:
    archive = make_archive(s3=s3.settings(tmp_path, bucket="elsewhere"))

    with pytest.raises(ArchiveUnavailable, match=r"bucket elsewhere.*NoSuchBucket"):
        await archive.put(make(), MESSAGE)


async def test_both_copies_or_none(make_archive: Maker, tmp_path: Path) -> None:
    archive = make_archive(
        directory="archive", s3=make_settings(tmp_path, find_closed()), timeout="5s"
    )

    with pytest.raises(ArchiveUnavailable, match="bucket mail"):
        await archive.put(make(), MESSAGE)


class Hanging(Directory):
    """A disk that does not answer: a pipe that nobody reads in the place of a file system."""

    threads = 2

    def __init__(self, path: str) -> None:
        super().__init__(path)
        os.mkfifo(f"{path}/stuck")

    def write(self, name: str, parts: object) -> None:
        del name, parts
        os.close(os.open(self._path / "stuck", os.O_WRONLY))


async def test_a_disk_that_hangs_costs_the_time_and_no_more(tmp_path: Path) -> None:
    depot = Hanging(str(tmp_path))
    vault = Vault(depot, None, 0.3)
    told: list[str] = []

    async def write() -> None:
        with pytest.raises(ArchiveUnavailable) as caught:
            await vault.write("a/b/c", [b""])
        told.append(str(caught.value))

    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(5):  # more than it has threads
            nursery.start_soon(write)

    assert trio.current_time() - started < 1
    assert told == [f"the archive ({depot.title}) did not answer within 0.3 s"] * 5
    # Its threads are busy still, and others' are not.
    await trio.to_thread.run_sync(_release, tmp_path / "stuck")
    await vault.read("a/b/c", 1)


def _release(pipe: Path) -> None:
    reader = os.open(pipe, os.O_RDONLY)
    time.sleep(0.1)
    os.close(reader)


# -- start


def test_none_is_configured(config: Config) -> None:
    assert open_archive(config) is None
    assert open_copies(config) is None


def test_a_directory_that_cannot_be_used(make_archive: Maker, tmp_path: Path) -> None:
    (tmp_path / "archive").write_text("a file")

    with pytest.raises(StartError, match="cannot be used"):
        make_archive(directory="archive")


def test_who_reads_makes_nothing(tmp_path: Path) -> None:
    config = read({"archive": {"directory": "archive"}}, base=tmp_path, environment={})

    assert open_copies(config) is not None
    assert not (tmp_path / "archive").exists()


@pytest.mark.parametrize("text", ["", "one\n", "one two three\n", "\xff\n"])
def test_credentials_that_are_none(make_archive: Maker, tmp_path: Path, text: str) -> None:
    settings = make_settings(tmp_path, find_closed())
    (tmp_path / "s3.credentials").write_text(text, encoding="latin-1")

    with pytest.raises(StartError, match="credentials_file"):
        make_archive(s3=settings)


def test_without_boto3_it_says_what_to_install(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['boto3'] = None; sys.modules['boto3.session'] = None\n"
        "from relay.archive.bucket import Bucket\n"
        "from relay.config.schema import S3\n"
        "Bucket(S3(bucket='x'), 1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=_ROOT, capture_output=True, check=False
    )

    assert b"StartError: archive.s3 needs boto3" in done.stderr
    assert b"pip install 'outgate[s3]'" in done.stderr
