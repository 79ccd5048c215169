"""What rules want to know of the inside of a message: types and names of its parts. Pure.

These run in a thread where a message is large. ``relay.mime`` bounds how much they do.
"""

from collections.abc import Iterable

from relay.mime import Part, Unreadable, list_names, split_fields, walk_all
from relay.policy.names import list_forms

# Octets of a head that are looked at, as of the head of any part. A longer one is not cut: a
# field behind the cut would be seen by the recipient, and not by the rule.
MAX_HEAD = 256 * 1024
# Octets of a value in which a pattern is searched. "To" with a thousand addresses has about 40 KiB.
MAX_VALUE = 64 * 1024
MAX_NAMES = 1 << 20  # characters of all names, in all their forms


def read_fields(head: bytes) -> dict[bytes, list[bytes]]:
    """Return the values of a head's fields, folded as they came, by their names in lower case.

    Raises Unreadable.
    """
    if len(head) > MAX_HEAD:
        raise Unreadable(f"its head has {len(head)} octets, more than {MAX_HEAD}")
    found: dict[bytes, list[bytes]] = {}
    for name, value in split_fields(head):
        key = name.lower()
        if key in found:
            found[key].append(value)
        else:
            found[key] = [value]
    return found


def read_types(octets: bytes, root: Part) -> frozenset[str]:
    """Return the types of all parts, and "image/*" for each "image/png". Raises Unreadable."""
    types = {part.content_type for _, part in walk_all(octets, root)}
    return frozenset(types | {f"{kind.partition('/')[0]}/*" for kind in types})


def read_names(octets: bytes, root: Part) -> str:
    """Return the names of all parts and of what is in archives, in all forms, a line each.

    Raises Unreadable.
    """
    return _join(list_names(octets, root))


def _join(names: Iterable[str]) -> str:
    forms: set[str] = set()
    size = 0
    for name in names:
        for form in list_forms(name) - forms:
            forms.add(form)
            size += len(form)
            if size > MAX_NAMES:
                raise Unreadable(
                    f"the names of its attachments have more than {MAX_NAMES} characters"
                )
    return "\n".join(forms)
