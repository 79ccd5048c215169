"""File names as people and programs take them, which is not always how they are written.

Who hides ``invoice.exe`` writes it so that a filter reads something else than the recipient's system
does. A name is compared in all forms that it may be taken for: a form too many costs a false match,
which its sender hears of; one too few costs what the rule was for.
"""

import unicodedata
from collections.abc import Iterator

from relay.config.pattern import normalise

_OVERRIDE, _POP = "\u202e", "\u202c"  # right-to-left override, and the end of it
# Control characters, invisible ones (soft hyphen, zero width, directions), line and paragraph ends.
_UNSEEN = frozenset(("Cc", "Cf", "Zl", "Zp"))


def list_forms(name: str) -> frozenset[str]:
    """Return what a name may be taken for: without line ends, ready for ``compile_names``'s pattern."""
    forms = {form for text in _list_readings(name) for form in _list_ends(_clean(text)) if form}
    # What has nothing but dots and blanks in its name is a file still, and "*" fits it.
    return frozenset(forms) or frozenset((".",))


def _list_readings(name: str) -> Iterator[str]:
    """Yield the name as it is stored, as C reads it (to the first NUL), and as it is shown."""
    yield name
    if "\0" in name:
        yield name.partition("\0")[0]
    if _OVERRIDE in name:
        # "\u202eexe.fdp" is shown as "pdf.exe", "invoice\u202efdp.exe" as "invoiceexe.pdf".
        yield _show(name)


def _show(name: str) -> str:
    """Turn what follows an override round, as a screen does."""
    first, *others = name.split(_OVERRIDE)
    turned = (other.partition(_POP) for other in others)
    return first + "".join(inside[::-1] + after for inside, _, after in turned)


def _clean(name: str) -> str:
    if not (name.isascii() and name.isprintable()):
        name = "".join(c for c in name if unicodedata.category(c) not in _UNSEEN)
    return normalise(name)


def _list_ends(name: str) -> Iterator[str]:
    """Yield a name in full and without its folders, each as Windows keeps it.

    That drops dots and blanks at the end, and takes what follows a colon for a stream of the file.
    """
    # normalise has made the wide ones of these characters plain.
    for path in (name, name.replace("\\", "/").rstrip("/").rpartition("/")[2]):
        yield path.strip().rstrip(". ")
        if ":" in path:
            yield path.partition(":")[0].strip().rstrip(". ")
