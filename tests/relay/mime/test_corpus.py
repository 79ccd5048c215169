"""Real mail: read or refused, and read as the standard library reads it."""

from email.header import decode_header, make_header

from relay.mime import Unreadable, decode, list_names, read_message, walk
from tests.kit.mime import needs_corpus, read_corpus, read_email

# Of the messages that are read (75 % of all: the rest has lines in its heads that are no fields,
# mostly mbox' "From ", or is cut off), so many are read by both alike. The others have names in
# octets that are no text, or split in encoded words, or types that the library does not take.
_ALIKE = 0.96


def show(name: str | None) -> str:
    """Undo encoded words: the library leaves them to who asks."""
    return "" if name is None else str(make_header(decode_header(name)))


@needs_corpus
def test_the_corpus_is_read_as_others_read_it() -> None:
    known = alike = count = 0
    for sample in read_corpus():
        count += 1
        try:
            root = read_message(sample.content)
        except Unreadable:
            continue
        known += 1
        ours = [(part.content_type, part.filename) for part in walk(root)]
        theirs = [
            (p.get_content_type(), show(p.get_filename())) for p in read_email(sample.content)
        ]
        alike += ours == theirs
        for part in walk(root):
            decode(sample.content, part, len(sample.content))

    assert known > 0.75 * count, (known, count)
    assert alike > _ALIKE * known, (alike, known)


@needs_corpus
def test_names_in_the_corpus_are_listed_or_refused() -> None:
    names = set()
    for sample in read_corpus():
        try:
            names.update(list_names(sample.content, read_message(sample.content)))
        except Unreadable:
            continue

    assert len(names) > 50
    assert "" not in names
