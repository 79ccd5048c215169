"""A bucket that keeps objects: any store that speaks Amazon's S3, by boto3.

PutObject is whole or nothing, and lasts when it is answered: that is what these stores promise. The
digest that goes with each (Content-MD5) makes the store refuse what was damaged on the way, and is
what buckets with Object Lock ask for. Checksums beyond that are boto3's newer habit, and not known
to all stores. Nothing here is kept but the client: what a process leaves half way, the store drops.

boto3 is an extra (``pip install 'outgate[s3]'``) and blocks: it is called in threads.
"""

import base64
import contextlib
import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from relay.config.schema import S3
from relay.errors import ArchiveUnavailable, StartError

_PAGE = 1000  # names, the most that S3 lists at a time
_FOLDERS = 100_000  # folders in a folder: days, tenants
_GONE = ("NoSuchKey", "404", "NotFound")


class Bucket:
    """A depot in a bucket. The client may be used by several threads at a time."""

    kind = "s3"
    threads = 16

    def __init__(self, s3: S3, timeout: float) -> None:
        """``timeout``: seconds for a message. Raises StartError without boto3, or credentials."""
        self.title = f"bucket {s3.bucket}"
        self._s3 = s3
        self._client, self._troubles = _make_client(s3, timeout, self.threads)

    def write(self, name: str, parts: Sequence[bytes]) -> None:
        """See Depot."""
        body = b"".join(parts)
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        with self._explained("take", name):
            self._client.put_object(
                Bucket=self._s3.bucket,
                Key=self._s3.prefix + name,
                Body=body,
                ContentMD5=base64.b64encode(digest).decode(),
                ContentType="application/octet-stream",
            )

    def read(self, name: str, limit: int) -> bytes | None:
        """See Depot."""
        with self._explained("read", name):
            try:
                answer = self._client.get_object(
                    Bucket=self._s3.bucket,
                    Key=self._s3.prefix + name,
                    Range=f"bytes=0-{limit - 1}",
                )
                body: bytes = answer["Body"].read(limit)
            except self._client.exceptions.ClientError as error:
                code = error.response.get("Error", {}).get("Code")
                if code in _GONE:
                    return None
                if code == "InvalidRange":  # an empty object has no first octet
                    return b""
                raise
            return body

    def list_folders(self, folder: str) -> list[str]:
        """See Depot."""
        prefix = self._find_prefix(folder)
        found: list[str] = []
        with self._explained("list", folder):
            token: dict[str, str] = {}
            while len(found) < _FOLDERS:
                answer = self._client.list_objects_v2(
                    Bucket=self._s3.bucket, Prefix=prefix, Delimiter="/", **token
                )
                folders = answer.get("CommonPrefixes", ())
                found += [one["Prefix"][len(prefix) : -1] for one in folders]
                if not answer.get("IsTruncated"):
                    break
                token = {"ContinuationToken": answer["NextContinuationToken"]}
        return sorted(found)

    def list_page(self, folder: str, after: str) -> tuple[list[str], bool]:
        """See Depot."""
        prefix = self._find_prefix(folder)
        start = {"StartAfter": prefix + after} if after else {}
        with self._explained("list", folder):
            answer = self._client.list_objects_v2(
                Bucket=self._s3.bucket, Prefix=prefix, Delimiter="/", MaxKeys=_PAGE, **start
            )
        names = [one["Key"][len(prefix) :] for one in answer.get("Contents", ())]
        return names, bool(answer.get("IsTruncated") and names)

    def remove(self, name: str) -> None:
        """See Depot. One by one: not every store has DeleteObjects."""
        with self._explained("remove", name):
            self._client.delete_object(Bucket=self._s3.bucket, Key=self._s3.prefix + name)

    def tidy(self, folder: str) -> None:
        """Buckets have no folders."""

    def _find_prefix(self, folder: str) -> str:
        return f"{self._s3.prefix}{folder}/" if folder else self._s3.prefix

    @contextlib.contextmanager
    def _explained(self, verb: str, name: str) -> Iterator[None]:
        try:
            yield
        except self._troubles as error:
            raise ArchiveUnavailable(
                f"the archive ({self.title}) could not {verb} {name or 'itself'}: {error}"
            ) from error


def _make_client(s3: S3, timeout: float, threads: int) -> tuple[Any, tuple[type[Exception], ...]]:
    """Return a client, and the exceptions that it raises."""
    try:
        import boto3.session
        import botocore.config
        import botocore.exceptions
    except ImportError as error:
        raise StartError(
            "archive.s3 needs boto3, which is not installed: pip install 'outgate[s3]'"
        ) from error
    # It tells where it has found credentials; what became of a message, we say.
    logging.getLogger("botocore").setLevel(logging.WARNING)
    troubles = (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError)
    identity, secret = _read_credentials(s3.credentials_file)
    # Whoever waits for a message gives up after `timeout`; these bound how long its thread goes on.
    settings = botocore.config.Config(
        connect_timeout=min(timeout, 10),
        read_timeout=timeout,
        retries={"mode": "standard", "total_max_attempts": 2},
        max_pool_connections=threads,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # Stores other than Amazon's seldom have a host name for each bucket.
        s3={"addressing_style": "path" if s3.endpoint else "auto"},
    )
    try:
        session = boto3.session.Session(
            aws_access_key_id=identity, aws_secret_access_key=secret, region_name=s3.region or None
        )
        client = session.client(
            "s3",
            endpoint_url=s3.endpoint or None,
            region_name=session.region_name or "us-east-1",
            config=settings,
        )
    except (*troubles, ValueError) as error:
        raise StartError(f"archive.s3 cannot be used: {error}") from error
    return client, troubles


def _read_credentials(path: str) -> tuple[str | None, str | None]:
    """Return access key id and secret access key; without a file, boto3 looks for its own."""
    if not path:
        return None, None
    try:
        with Path(path).open(encoding="ascii") as file:
            words = file.read(4096).split()
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"archive.s3.credentials_file {path} cannot be read: {error}") from error
    if len(words) != 2:
        raise StartError(
            f"archive.s3.credentials_file {path}: expected two lines, "
            "the access key id and the secret access key"
        )
    return words[0], words[1]
