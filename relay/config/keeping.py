"""What is wrong with what is kept: the archive and the audit trail."""

from collections.abc import Iterator
from pathlib import Path

from relay.audit.seal import find_key_fault, split_keys
from relay.config.archive import find_archive_problems
from relay.config.schema import Audit, Config
from relay.config.shapes import check_files, is_file


def find_keeping_problems(config: Config) -> Iterator[str]:
    """Yield what the types cannot say of ``[archive]`` and ``[audit]``."""
    yield from find_archive_problems(config)
    yield from _audit_problems(config.audit)


def _audit_problems(audit: Audit) -> Iterator[str]:
    if audit.key_file and not audit.directory:
        yield "audit.directory: missing; seals are made of what is in it"
    if audit.retention < 0:
        yield f"audit.retention: expected a time, or 0 for ever, got {audit.retention}"
    yield from check_files("audit", key_file=audit.key_file)
    if not audit.key_file or not is_file(audit.key_file):
        return
    try:
        keys = split_keys(Path(audit.key_file).read_bytes())
    except OSError as error:
        yield f"audit.key_file: cannot be read: {error.strerror}"
        return
    if fault := find_key_fault(keys):
        yield f"audit.key_file: {fault}"
