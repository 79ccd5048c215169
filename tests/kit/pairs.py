"""Certificates as files, for tests of whoever reads them: written whole, or in halves."""

import datetime as dt
from pathlib import Path

import trustme

from relay.net.certificates import Pair


def write_pair(
    directory: Path, issued: trustme.LeafCert, *, name: str = "", place: str = "ingress.tls"
) -> Pair:
    """Write chain and key to ``<name>chain.pem`` and ``<name>key.pem``."""
    chain, key = directory / f"{name}chain.pem", directory / f"{name}key.pem"
    chain.write_bytes(join_chain(issued))
    key.write_bytes(issued.private_key_pem.bytes())
    return Pair(place, str(chain), str(key))


def join_chain(issued: trustme.LeafCert) -> bytes:
    return b"".join(pem.bytes() for pem in issued.cert_chain_pems)


def issue(
    authority: trustme.CA, *names: str, now: dt.datetime, days: float = 60, began: float = 30
) -> trustme.LeafCert:
    """Issue a certificate that began so many days ago and has so many left."""
    return authority.issue_cert(
        *names,
        not_before=now - dt.timedelta(days=began),
        not_after=now + dt.timedelta(days=days),
    )
