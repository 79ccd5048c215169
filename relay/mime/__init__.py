"""Reads what a message consists of: parts, their types, and the names of files in them.

Bytes in, offsets out: nothing is changed and little is copied. It is as tolerant as receivers are
where they agree, and refuses (``Unreadable``) where they do not: a difference between what is read
here and what the recipient's program shows is how attachments are hidden. Everything is bounded
(``Limits``), and takes time in proportion to the message.

``parameters`` reads Content-Type and Content-Disposition, ``structure`` finds the parts,
``transfer`` decodes them, ``names`` looks for file names, in ``archives`` as well.
"""

from relay.mime.fields import fields, split_fields, unfold
from relay.mime.limits import Limits, Unreadable
from relay.mime.names import list_names, walk_all
from relay.mime.part import Part, walk
from relay.mime.structure import read_message
from relay.mime.transfer import decode
from relay.mime.words import decode_words

__all__ = [
    "Limits",
    "Part",
    "Unreadable",
    "decode",
    "decode_words",
    "fields",
    "list_names",
    "read_message",
    "split_fields",
    "unfold",
    "walk",
    "walk_all",
]
