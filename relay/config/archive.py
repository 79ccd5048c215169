"""What is wrong with ``[archive]``."""

import re
from collections.abc import Iterator

from relay.config.schema import S3, Archive, Config
from relay.config.shapes import check_files

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9.\[\]:_-]+/?")
# What all stores take in names (Amazon's "safe characters").
_PREFIX = re.compile(r"(?!/)[A-Za-z0-9!_.*'()/-]{0,500}")


def find_archive_problems(config: Config) -> Iterator[str]:
    """Yield what the types cannot say of ``[archive]``."""
    archive = config.archive
    is_there = bool(archive.directory or archive.s3.bucket)
    yield from check_files("archive", key_file=archive.key_file)
    if not 1 <= archive.timeout <= 600:
        yield f"archive.timeout: expected 1 to 600 seconds, got {archive.timeout}"
    if not is_there and archive != Archive(s3=archive.s3):
        yield "archive: expected directory or s3.bucket: there is nowhere to keep messages"
    yield from _bucket_problems(archive.s3)
    if not is_there:
        return
    for number, tenant in enumerate(config.tenant):
        # The archive's own folders begin with a dot.
        if tenant.name.startswith("."):
            yield f"tenant[{number}].name: with an [archive] it may not begin with a dot"


def _bucket_problems(s3: S3) -> Iterator[str]:
    yield from check_files("archive.s3", credentials_file=s3.credentials_file)
    if not s3.bucket:
        if s3 != S3():
            yield "archive.s3.bucket: missing"
        return
    if not _BUCKET.fullmatch(s3.bucket):
        yield f"archive.s3.bucket: expected the name of a bucket, got {s3.bucket!r}"
    if s3.endpoint and not _ENDPOINT.fullmatch(s3.endpoint):
        yield f"archive.s3.endpoint: expected https://HOST or https://HOST:PORT, got {s3.endpoint!r}"
    if not _PREFIX.fullmatch(s3.prefix):
        yield (
            'archive.s3.prefix: expected letters, digits and ! _ . * \' ( ) - /, as in "mail/", '
            f"got {s3.prefix!r}"
        )
