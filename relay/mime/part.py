"""One part of a message, as far as its head tells."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a message, or all of it. The octets stay in the message: offsets point into it."""

    content_type: str  # "text/plain", in lower case
    parameters: Mapping[str, str]  # of Content-Type; names in lower case
    disposition: str  # "", "inline" or "attachment" (RFC 2183 §2.8: also what is neither)
    filename: str  # what most readers show; "": it has none
    # "7bit", "8bit", "binary", "base64", "quoted-printable"; or as written, in lower case
    encoding: str
    start: int  # the head: [start, body), with the empty line, if there is one
    body: int  # [body, end)
    end: int  # before the CRLF of the boundary that ends it
    parts: tuple["Part", ...] = ()  # of a multipart; of message/rfc822: the message
    # Every name that some reader may show: where there are several, or where they are written so
    # that readers differ. With ``filename`` first.
    names: tuple[str, ...] = ()


def walk(part: Part) -> Iterator[Part]:
    """Yield a part and all in it, in the order in which they stand."""
    yield part
    for inner in part.parts:
        yield from walk(inner)
