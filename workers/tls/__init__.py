"""TLS on the way out: what is demanded of a host, whether it holds, and what is reported of it.

guard.py     what a session with one host must show, and who demands it
demand.py    who demands what of the hosts of a domain, strongest first
chain.py     the certificates that a host has shown; shown.py in words
pkix.py      chain and name, against the authorities that we trust
dane.py      ... against what the host's zone says (RFC 7672)
proof.py     a session's certificates held against its guard
sts.py       policies that domains publish (RFC 8461); fetch.py gets them
learnt.py    what hosts have shown before
account.py   sessions in the words of reports (RFC 8460)
tally.py     ... counted; report.py makes the daily report: for whom (rua.py), its document
             (document.py), by HTTPS (posting.py), a few at a time (several.py)
security.py  all this, for one worker process
probe.py     a host's TLS tried, without mail
forecast.py  what would become of mail to a domain; outlook.py puts it into words
"""
