"""DKIM (RFC 6376): whose a message is, read off its signatures, and signatures of our own.

verify.py     what the signatures of one message prove, while it arrives
signature.py  one DKIM-Signature field (pure)   key.py    public keys, and where they stand
canon.py      canonical forms (pure)            tags.py   lists of tags (pure)
fields.py     the fields of a head (pure)       sign.py   signatures of our own
RFC.md        what is implemented
"""
