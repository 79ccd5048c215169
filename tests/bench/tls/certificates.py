"""The certificates of a run: a root, an intermediate, and one for ``localhost``.

Gateway and sink show the same one, whatever the system; generator and system trust the root.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import trustme

Kind = Literal["ECDSA", "RSA"]
KINDS: dict[Kind, str] = {"ECDSA": "ECDSA P-256", "RSA": "RSA-2048"}  # as trustme makes them

HOST = "localhost"


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in PEM."""

    ca_file: Path
    chain: Path  # the certificate and the intermediate
    key: Path


@contextmanager
def make_certificates(kind: Kind) -> Iterator[Certificates]:
    """Make them, with keys of one kind throughout."""
    key_type = trustme.KeyType[kind]
    root = trustme.CA(key_type=key_type)
    issued = root.create_child_ca(key_type=key_type).issue_cert(HOST, key_type=key_type)
    with tempfile.TemporaryDirectory(prefix="certificates-") as name:
        directory = Path(name)
        # Postfix's tlsproxy reads the authorities when it is no longer root.
        directory.chmod(0o755)
        made = Certificates(directory / "ca.pem", directory / "chain.pem", directory / "key.pem")
        root.cert_pem.write_to_path(made.ca_file)
        made.chain.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        made.key.touch(mode=0o600)
        issued.private_key_pem.write_to_path(made.key)
        yield made
