"""Replaying a corpus: real messages from files, to any SMTP server, at any pace; ``outgate replay``.

A thread reads (``files``, ``archive``, ``mbox``), ``prepare`` makes envelopes to test domains of it, ``pace``
says when each is due, ``run`` sends over ``line``s, ``tally`` counts, ``journal`` remembers, ``report`` and
``page`` tell. ``scrub`` writes a corpus without what is personal, instead.
"""
