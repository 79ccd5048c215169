"""The archive: a copy of every message, or of those that a rule marks, kept before its 250.

    archive = open_archive(config)              # None: not configured
    await archive.put(make_entry(...), message) # on disk, or in the bucket, when it returns

``put`` comes before the store's ``accept``, never after it. So a process that dies between the two
leaves a copy of a message that was never acknowledged; its sender sends it again, under another id,
and ``find`` shows both. That is deliberate: the other way round there would be mail that went out
and was not kept. ``put`` of the same id again replaces the copy by itself.

What is kept is one object for each message, ``<tenant>/<day>/<message id>.mail`` (``name.py``), in a
directory (``directory.py``), in a bucket (``bucket.py``), or in both. It begins with a line of JSON,
the entry: envelope, and what is known (``entry.py``). Behind it stand the message's octets as they
are stored and sent. With keys both are sealed (``form.py``, ``seal.py``). A legal hold is an object of
its own (``hold.py``), so the archive needs nothing beside itself to be read, or to be kept.

Days are those of UTC, and those of the message's id: who knows an id knows where its message is.
"""

from relay.archive.archive import Archive, Copies, open_archive, open_copies
from relay.archive.entry import Entry, make_entry

__all__ = ["Archive", "Copies", "Entry", "make_entry", "open_archive", "open_copies"]
