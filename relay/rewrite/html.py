"""A footer in HTML: what it looks like, and where it goes."""

import html
import re

# The end of body or html, and comments, in which neither ends.
_MARK = re.compile(rb"<!--|</(body|html)(?=[\s/>])", re.IGNORECASE)


def make_html(text: str) -> str:
    """Return a text as a paragraph of HTML, its lines as they are."""
    return "<p>" + "<br>\n".join(html.escape(line) for line in text.splitlines()) + "</p>"


def find_place(content: bytes) -> int:
    """Return where in a document a footer goes: before the last end of its body, else at the end."""
    places: dict[bytes, int] = {}
    at = 0
    while match := _MARK.search(content, at):
        at = match.end()
        if match[1]:
            places[match[1].lower()] = match.start()
        elif (end := content.find(b"-->", at)) >= 0:
            at = end + 3
        else:
            break  # a comment without an end: all that follows is in it
    return places.get(b"body", places.get(b"html", len(content)))
