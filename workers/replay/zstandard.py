"""Zstandard: Python has it from 3.14 on, a library before that; it is imported when it is needed."""

import sys
from typing import Any

from relay.errors import StartError


def load_zstd(path: object) -> Any:  # noqa: ANN401 - one of two modules with the same names in them
    """Return the module ``compression.zstd``, or its backport. Raises StartError without it."""
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:
        raise StartError(
            f"{path}: Zstandard needs a library that is not installed: "
            "pip install 'outgate[replay]', or do without .zst"
        ) from None
    return zstd
