"""Zstandard: Python has it from 3.14 on, a library before that; it is imported when it is needed."""

import importlib
import sys
from typing import Any

from relay.errors import StartError

_NAME = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"


def load_zstd(path: object) -> Any:  # noqa: ANN401 - one of two modules with the same names in them
    """Return the module ``compression.zstd``, or its backport. Raises StartError without it."""
    try:
        return importlib.import_module(_NAME)
    except ImportError:
        raise StartError(
            f"{path}: Zstandard needs a library that is not installed: "
            "pip install 'outgate[replay]', or do without .zst"
        ) from None
