"""Keys, their records, and signatures that are right but for what a test wants wrong."""

import base64
import random
from hashlib import sha256

import dkim
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.dkim.canon import RelaxedBody, relax_field
from relay.dkim.fields import Fields, cut_message
from relay.dkim.key import Keys, PublicKey, choose_record, parse_key
from relay.dkim.sign import Key
from relay.dkim.verify import Verdict, Verifier

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ED25519 = Ed25519PrivateKey.generate()
KEYS: dict[str, Key] = {"rsa": RSA, "ed25519": ED25519}

DOMAIN = "acme.example"
RECORD = "s._domainkey.acme.example"

MESSAGE = (
    b"Received: from a by b; today\r\n"
    b"From: Alice <alice@acme.example>\r\n"
    b"To: bob@example.org\r\n"
    b"Subject: One  or\r\n\ttwo\r\n"
    b"Date: Tue, 24 Nov 2026 00:20:00 +0000\r\n"
    b"Message-ID: <1@acme.example>\r\n"
    b"\r\n"
    b"Good \t morning, \r\n\r\nAlice\r\n\r\n"
)


def make_record(key: Key, service: str = "*") -> bytes:
    """Return the TXT record of a key."""
    public = key.public_key()
    if isinstance(key, Ed25519PrivateKey):
        raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        kind = b"ed25519"
    else:
        raw = public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        kind = b"rsa"
    return b"v=DKIM1; k=%b; s=%b; p=%b" % (kind, service.encode(), base64.b64encode(raw))


def make_short_key(bits: int = 768) -> rsa.RSAPrivateKey:
    """Return an RSA key of so few bits that nobody makes it for us."""
    chance = random.Random(bits)

    def find_prime() -> int:
        while True:
            # The two highest bits set: the product of two such has all its bits.
            number = chance.getrandbits(bits // 2) | 3 << bits // 2 - 2 | 1
            if pow(2, number - 1, number) == 1 and number % 65537 != 1:
                return number

    p, q, e = find_prime(), find_prime(), 65537
    d = pow(e, -1, (p - 1) * (q - 1))
    parts = d % (p - 1), d % (q - 1), pow(q, -1, p)
    numbers = rsa.RSAPrivateNumbers(p, q, d, *parts, rsa.RSAPublicNumbers(e, p * q))
    return numbers.private_key()


def write_txt(record: bytes) -> str:
    """Return a record as a zone file has it: strings of at most 255 octets."""
    text = record.decode("ascii")
    return " ".join(f'"{text[at : at + 255]}"' for at in range(0, len(text), 255))


class KnownKeys(Keys):
    """Keys without the way to the DNS, for tests of very many messages. It counts."""

    def __init__(self, *records: bytes, name: str = RECORD) -> None:
        self.records = {name: records}
        self.asked = 0

    async def find(self, selector: str, domain: str) -> PublicKey:
        self.asked += 1
        return parse_key(choose_record(self.records.get(f"{selector}._domainkey.{domain}", ())))


def is_ours(domain: str) -> bool:
    """Tell whether a domain is that of these tests, or below it."""
    return domain == DOMAIN or domain.endswith(f".{DOMAIN}")


async def check(message: bytes, keys: Keys, *, now: float | None = None, cut: int = 0) -> Verdict:
    """Verify a message, its body in pieces of ``cut`` octets."""
    head, body = cut_message(message)
    verifier = Verifier(head, is_ours, now=now)
    step = cut or len(body) or 1
    for start in range(0, len(body), step):
        verifier.feed(body[start : start + step])
    return await verifier.conclude(keys)


def seal(octets: bytes, key: Key) -> bytes:
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(sha256(octets).digest())
    return key.sign(octets, padding.PKCS1v15(), hashes.SHA256())


def sign_as(message: bytes, key: Key = ED25519, *, more: str = "", **tags: str | None) -> bytes:
    """Return the message with a relaxed/relaxed signature; tags are replaced, None takes one out."""
    head, body = cut_message(message)
    hashed = RelaxedBody()
    hashed.feed(body)
    kind = "rsa" if isinstance(key, rsa.RSAPrivateKey) else "ed25519"
    all_tags: dict[str, str | None] = {
        "v": "1",
        "a": f"{kind}-sha256",
        "c": "relaxed/relaxed",
        "d": DOMAIN,
        "s": "s",
        "h": "from:to:subject:date:from",
        "bh": base64.b64encode(hashed.finish()).decode(),
    } | tags
    names = [name.strip().lower().encode() for name in (all_tags["h"] or "").split(":")]
    text = "; ".join(f"{name}={value}" for name, value in all_tags.items() if value is not None)
    field = f"DKIM-Signature: {text}; {more}b=".encode()
    signed = [relax_field(one) for one in Fields(head).choose(names)] + [relax_field(field)]
    return field + base64.b64encode(seal(b"\r\n".join(signed), key)) + b"\r\n" + message


def sign_elsewhere(
    message: bytes, kind: str, forms: tuple[bytes, bytes], *, names: list[bytes] | None = None
) -> bytes:
    """Return the message with a signature by dkimpy in front."""
    key = KEYS[kind]
    if isinstance(key, Ed25519PrivateKey):
        private = base64.b64encode(key.private_bytes_raw())
    else:
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    field = dkim.sign(
        message,
        b"s",
        DOMAIN.encode(),
        private,
        canonicalize=forms,
        include_headers=names,
        signature_algorithm=f"{kind}-sha256".encode(),
    )
    return bytes(field) + message


def verify_elsewhere(message: bytes, record: bytes) -> bool:
    """Ask dkimpy about the first signature; it gets ``record`` whatever it looks up."""
    return bool(dkim.verify(message, dnsfunc=lambda name, timeout=5: record, tlsrpt=True))
