"""TLS on the way out: what is demanded of a host, whether it holds, and what is reported of it.

guard.py    what a session with one host must show, and who demands it
chain.py    the certificates that a host has shown
pkix.py     chain and name, against the authorities that we trust
dane.py     ... against what the host's zone says (RFC 7672)
sts.py      policies that domains publish (RFC 8461); fetch.py gets them
proof.py    a session's certificates held against its guard
tally.py    sessions and failures, counted (RFC 8460); report.py makes the daily report
"""
