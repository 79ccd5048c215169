"""The grammar of SMTP commands, each expression under its rule. Parsers elsewhere hold none.

Bytes throughout: an address is what the peer wrote. Octets above 127 are let through here and
judged by the caller, who knows whether SMTPUTF8 was asked for (RFC 6531 §3.3).
"""

import re

# RFC 5321 §4.1.2:
#   Path       = "<" [ A-d-l ":" ] Mailbox ">"       (the source route is read and ignored, App. C)
#   Mailbox    = Local-part "@" ( Domain / address-literal )
#   Local-part = Dot-string / Quoted-string
# Wider than Dot-string on purpose: docomo.ne.jp and others have handed out addresses with dots
# in a row or at the end, and a relay that refuses them refuses real people.
# Narrower than Quoted-string: no blanks and no angle brackets, even quoted. We would have to say
# the address to the next server, and whether its parser agrees with ours about the quotes is not
# worth finding out (relay/smtp/extensions.py refuses to send them).
_LOCAL = (
    rb'(?:[^\x00-\x20\x7f"(),:;<>@\[\\\]]+'
    rb'|"(?:[^\x00-\x20\x7f"\\<>]|\\[\x21-\x3b\x3d\x3f-\x7e])*")'
)
# Domain = sub-domain *("." sub-domain); with the underscore of the wild and U-labels (RFC 6531).
_LABEL = rb"[A-Za-z0-9_\x80-\xff](?:[A-Za-z0-9_\x80-\xff-]*[A-Za-z0-9_\x80-\xff])?"
_DOMAIN = rb"(?:" + _LABEL + rb"(?:\." + _LABEL + rb")*\.?|\[[0-9A-Za-z:.]+\])"
_ROUTE = rb"(?:@[^:<>\s\x00-\x1f]{1,255}:)?"
# A blank after the colon is not in the grammar (§3.3) and common all the same.
_PARAMETERS = rb"((?: +[^\s\x00-\x1f]+)*) *"

# "MAIL FROM:" Reverse-path [SP Mail-parameters]; Reverse-path = Path / "<>"
REVERSE_PATH = re.compile(
    rb"FROM: *<" + _ROUTE + rb"(" + _LOCAL + rb"@" + _DOMAIN + rb"|)>" + _PARAMETERS, re.IGNORECASE
)
# "RCPT TO:" ( "<Postmaster@" Domain ">" / "<Postmaster>" / Forward-path ) [SP Rcpt-parameters]
FORWARD_PATH = re.compile(
    rb"TO: *<" + _ROUTE + rb"(" + _LOCAL + rb"@" + _DOMAIN + rb"|postmaster)>" + _PARAMETERS,
    re.IGNORECASE,
)

# RFC 5321 §4.5.3.1.3 has 256 octets for a path. VERP and forwarding services exceed the 64 octets
# of a local part (§4.5.3.1.1) every day, so only the whole is bounded.
MAX_PATH = 320

# EHLO and HELO: a Domain or an address literal (§4.1.1.1). What peers really send is not checked
# further than this (§4.1.4: "MUST NOT refuse to accept a message on that basis").
HELLO = re.compile(rb"[\x21-\x7e\x80-\xff]{1,255}")

# RFC 1870 §4: size-value ::= 1*20DIGIT
SIZE = re.compile(rb"[0-9]{1,20}")
# RFC 3030 §2: bdat-cmd = "BDAT" SP chunk-size [ SP end-marker ] CR LF
CHUNK = re.compile(rb"([0-9]{1,10})( +LAST)? *", re.IGNORECASE)
# RFC 3461 §4: xtext = *( xchar / hexchar )
XTEXT = re.compile(rb"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-F]{2})+")
# RFC 3461 §4.1: notify-esmtp-value = "NEVER" / 1#notify-list-element
NOTIFY = re.compile(rb"NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY)){0,2}")
# RFC 3461 §4.2: orcpt-parameter = "ORCPT=" original-recipient-address; utf-8 in RFC 6533 §3
ORCPT = re.compile(rb"[A-Za-z0-9.-]{1,40};[\x21-\x7e\x80-\xff]{1,500}")
