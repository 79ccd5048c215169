import tomllib
from pathlib import Path

import pytest

from relay.config import read
from relay.errors import ConfigError


def find_problems(text: str, base: Path) -> list[str]:
    try:
        read(tomllib.loads(text), base=base, environment={})
    except ConfigError as error:
        return error.problems
    return []


@pytest.mark.parametrize(
    "text",
    [
        '[archive]\ndirectory = "a"',
        '[archive.s3]\nbucket = "mail"',
        '[archive.s3]\nbucket = "mail"\nendpoint = "http://127.0.0.1:9000"\nprefix = "a/b/"',
        '[archive.s3]\nbucket = "mail"\nendpoint = "https://[::1]:9000/"\nregion = "eu-central-1"',
        '[archive]\ndirectory = "a"\nretention = "3650d"\ntimeout = "5s"\nmessages = "rules"',
    ],
)
def test_good_archives(text: str, tmp_path: Path) -> None:
    assert find_problems(text, tmp_path) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[archive]\nretention = "1d"', "archive: expected directory or s3.bucket"),
        ('[archive]\nmessages = "rules"', "archive: expected directory or s3.bucket"),
        ('[archive]\ndirectory = "a"\nkey_file = "k"', "archive.key_file: no such file"),
        ('[archive]\ndirectory = "a"\ntimeout = 0', "archive.timeout: expected 1 to 600 seconds"),
        ('[archive.s3]\nregion = "x"', "archive.s3.bucket: missing"),
        ('[archive.s3]\nbucket = "a/b"', "archive.s3.bucket: expected the name of a bucket"),
        ('[archive.s3]\nbucket = "ab"\nendpoint = "s3.example"', "archive.s3.endpoint: expected"),
        ('[archive.s3]\nbucket = "ab"\nprefix = "/x"', "archive.s3.prefix: expected"),
        ('[archive.s3]\nbucket = "ab"\nprefix = "ä"', "archive.s3.prefix: expected"),
        (
            '[archive.s3]\nbucket = "ab"\ncredentials_file = "c"',
            "archive.s3.credentials_file: no such file",
        ),
        (
            (
                '[archive]\ndirectory = "a"\n'
                '[[tenant]]\nname = ".."\ndomains = ["a.example"]\nnetworks = ["127.0.0.1"]'
            ),
            "tenant[0].name: with an [archive] it may not begin with a dot",
        ),
    ],
)
def test_bad_archives(text: str, said: str, tmp_path: Path) -> None:
    (problem,) = find_problems(text, tmp_path)

    assert problem.startswith(said)
