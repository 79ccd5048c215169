"""Changes messages where a rule wants it: octets in, octets out, and all else as it was.

A change breaks what signatures cover: who makes one asks ``find_signed`` first, and signs again.
"""

from relay.rewrite.cannotchange import CannotChange
from relay.rewrite.field import add_field
from relay.rewrite.footer import add_footer
from relay.rewrite.signed import find_signed

__all__ = ["CannotChange", "add_field", "add_footer", "find_signed"]
