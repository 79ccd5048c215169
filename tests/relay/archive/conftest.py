"""What tests of the archive begin with: one in a directory, in a bucket, or in both."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.archive import Copies, open_archive
from relay.config import read
from tests.kit.archive import write_keys
from tests.kit.s3 import S3Server, find_obstacle

Maker = Callable[..., Copies]


@pytest.fixture(scope="session")
def shared_s3() -> Iterator[S3Server]:
    if obstacle := find_obstacle():
        pytest.skip(obstacle)
    with S3Server() as server:
        yield server


@pytest.fixture
def s3(shared_s3: S3Server) -> S3Server:
    """A server with an empty bucket."""
    shared_s3.fresh()
    return shared_s3


@pytest.fixture
def make_archive(tmp_path: Path) -> Maker:
    """Return a function that opens an archive of these settings."""

    def open_it(**archive: Any) -> Copies:
        opened = open_archive(read({"archive": archive}, base=tmp_path, environment={}))
        assert opened is not None
        return opened

    return open_it


@pytest.fixture(params=["directory", "s3", "both"])
def archive(request: pytest.FixtureRequest, make_archive: Maker, tmp_path: Path) -> Copies:
    """An archive of each kind, sealed."""
    settings: dict[str, Any] = {"key_file": write_keys(tmp_path / "keys")}
    if request.param != "directory":
        settings["s3"] = request.getfixturevalue("s3").settings(tmp_path, prefix="a/b/")
    if request.param != "s3":
        settings["directory"] = "archive"
    return make_archive(**settings)
