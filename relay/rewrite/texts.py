"""Which parts are the text of a message: what a recipient reads without opening anything."""

from relay.mime import Part, fields
from relay.rewrite.cannotchange import CannotChange

# What a change inside would break, or what is read by programs.
_UNTOUCHABLE = {
    "multipart/signed": "it is signed",
    "multipart/encrypted": "it is encrypted",
    "multipart/report": "it is a report that programs read",
}
# Keys (application/pgp-keys) are files like others.
_SEALED = (
    *("application/pkcs7-", "application/x-pkcs7-"),
    *("application/pgp-encrypted", "application/pgp-signature"),
)
_TEXTS = frozenset({"text/plain", "text/html"})


def find_texts(message: bytes, root: Part) -> list[Part]:
    """Return the parts that are the message's text, in order.

    Of a multipart/mixed the first that has text, of a multipart/related its root, of a
    multipart/alternative all. Raises CannotChange where there is none, or none that may change.
    """
    for part in _walk_own(root):
        if part.content_type.startswith(_SEALED):
            raise CannotChange(f"it is signed or encrypted: it has a part {part.content_type}")
    texts = _find(message, root)
    if not texts:
        raise CannotChange("it has no text")
    return texts


def _walk_own(part: Part) -> list[Part]:
    """Return all parts that are not in a message in this one."""
    if not part.content_type.startswith("multipart/"):
        return [part]
    return [part, *(one for inner in part.parts for one in _walk_own(inner))]


def _find(message: bytes, part: Part) -> list[Part]:
    if part.content_type in _UNTOUCHABLE:
        raise CannotChange(_UNTOUCHABLE[part.content_type])
    if part.content_type in _TEXTS:
        # What has a name is a file, even where it is shown with the text.
        return [part] if part.disposition != "attachment" and not part.names else []
    if not part.content_type.startswith("multipart/") or part.disposition == "attachment":
        return []
    if part.content_type == "multipart/alternative":
        return [text for inner in part.parts for text in _find(message, inner)]
    if part.content_type == "multipart/related":
        return _find(message, _find_root(message, part)) if part.parts else []
    # RFC 2046 §5.1.3: a multipart of an unknown kind is a mixed one.
    return next((texts for inner in part.parts if (texts := _find(message, inner))), [])


def _find_root(message: bytes, part: Part) -> Part:
    """Return the root of a multipart/related (RFC 2387 §3.2): the one of ``start``, or the first."""
    start = part.parameters.get("start", "").strip()
    if start:
        for inner in part.parts:
            for name, value in fields(message[inner.start : inner.body]):
                if name.lower() == b"content-id" and value.strip() == start.encode():
                    return inner
    return part.parts[0]
