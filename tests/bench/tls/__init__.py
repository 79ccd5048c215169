"""TLS on both sides: STARTTLS in and STARTTLS out, outgate beside Postfix.

Debian's smtp-source and smtp-sink speak no TLS, so generator and sink are our own, each a process
by itself: ``source.py``, ``sink.py``; ``ends.py`` starts them and reads their counts.
"""
