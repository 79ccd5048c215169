"""Changes the fields of a head that say how a text is encoded, and nothing else in it."""

from relay.mime.fields import find_fields
from relay.mime.parameters import read_value
from relay.rewrite.cannotchange import CannotChange


def set_field(head: bytes, name: bytes, value: bytes) -> bytes:
    """Give a field another value; behind all others if it is not there.

    ``value`` begins with the blank that follows the colon. The name stays as it is written.
    """
    pieces: list[bytes] = []
    found, at = False, 0
    for field in find_fields(head):
        if field.name.lower() == name.lower():
            pieces += [head[at : field.start], field.name, b":", value, b"\r\n"]
            found, at = True, field.end
    if found:
        return b"".join([*pieces, head[at:]])
    fields = complete(head).removesuffix(b"\r\n")
    return fields + name + b":" + value + b"\r\n\r\n"


def complete(head: bytes) -> bytes:
    """Return a head with the empty line at its end; some messages end before it."""
    if head == b"\r\n" or head.endswith(b"\r\n\r\n"):
        return head
    return head + b"\r\n" if not head or head.endswith(b"\r\n") else head + b"\r\n\r\n"


def get_field(head: bytes, name: bytes) -> bytes | None:
    """Return a field's value as it is written, the last one's if there are several."""
    found = None
    for field in find_fields(head):
        if field.name.lower() == name.lower():
            found = field.value
    return found


def set_charset(head: bytes, charset: str) -> bytes:
    """Change the charset that a text's Content-Type says; its other parameters stay as written.

    Raises CannotChange when it says it in a way that cannot be changed for all readers.
    """
    said = b"charset=" + charset.encode()
    raw = get_field(head, b"Content-Type")
    if raw is None or not raw.strip():
        return set_field(head, b"Content-Type", b" text/plain; " + said)
    found = [one for one in read_value(raw).parameters if one.name.startswith(b"charset")]
    if len(found) > 1 or any(one.name != b"charset" for one in found):
        raise CannotChange("its text says two charsets, or one in pieces")
    if found:
        changed = raw[: found[0].start] + said + raw[found[0].end :]
    else:
        changed = raw.rstrip(b"; \t\r\n") + b";\r\n\t" + said
    return set_field(head, b"Content-Type", changed)
