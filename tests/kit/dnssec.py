"""The DNS as it really is, on loopback: NSD holds signed zones, Unbound resolves and validates them.

    zones = {
        "example.test": Zone({
            "example.test": {"MX": ["10 mx.example.test."]},
            "mx.example.test": {"A": ["192.0.2.1"]},
            "_25._tcp.mx.example.test": {"TLSA": [f"3 1 1 {digest}"]},
        }),
        "plain.test": Zone({"plain.test": {"MX": ["10 mx.plain.test."]}}, signed=False),
        "bogus.test": Zone({"bogus.test": {"A": ["192.0.2.2"]}}, fault=Fault.BOGUS),
    }
    async with open_dnssec(zones) as servers:
        resolver = Resolver(Dns(nameservers=(servers.endpoint,)))
        ...
        zones["example.test"].names["mx.example.test"]["A"] = ["192.0.2.9"]
        servers.publish()  # signed anew, served, and nothing old in Unbound's cache

Names and records are written as in ``tests.kit.nameserver``. Above all zones there is a signed
root, whose key is Unbound's trust anchor: each zone is delegated from the one that encloses it,
with a DS record if it is signed. What stands in no zone does not exist, and that is signed, too.
Nothing leaves the machine.

To break one name only, a TLSA record say, and not the host: list it in ``spoilt`` (its signatures
do not fit), or give it a zone of its own (``_tcp.mx.example.test``) with a fault. What is broken in
any of these ways, a validating resolver answers SERVFAIL.

Needs Debian's nsd and unbound: ``find_obstacle`` says what is missing, for tests to skip with. No
privileges; under a virtual clock it works, too: what waits here waits in real time.
"""

import enum
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, MutableMapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dns.dnssec
import dns.dnssectypes
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdata
import dns.rdataset
import dns.rdatatype
import dns.rdtypes.ANY.DNSKEY
import dns.rdtypes.ANY.RRSIG
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec

from relay.config import Endpoint
from relay.tether import tethered
from tests.kit.program import Program

_ADDRESS = "127.0.0.1"
_DAY = 86_400
_ROOT = "."
_PATIENCE = 10.0  # seconds for the first answer
_TRIES = 3  # somebody else may take a free port before we do
_SOA = "ns.invalid. hostmaster.invalid. {serial} 7200 900 1209600 {ttl}"

_NSD = """\
server:
    ip-address: {address}@{port}
    server-count: 1
    username: ""
    zonesdir: "{directory}"
    database: ""
    pidfile: ""
    xfrdfile: ""
    zonelistfile: "{directory}/zone.list"
    xfrdir: "{directory}"
    rrl-ratelimit: 0
remote-control:
    control-enable: no
"""
_NSD_ZONE = """\
zone:
    name: "{name}"
    zonefile: "{file}"
"""

# Zones that Unbound has of itself (RFC 6761) and that tests like to use.
_RESERVED = ("test.", "invalid.", "home.arpa.")
_UNBOUND = """\
server:
    interface: {address}
    port: {port}
    do-ip6: no
    num-threads: 1
    so-reuseport: no
    chroot: ""
    username: ""
    directory: "{directory}"
    pidfile: ""
    use-syslog: no
    do-daemonize: no
    verbosity: 1
    val-log-level: 2
    module-config: "validator iterator"
    do-not-query-localhost: no
    trust-anchor: "{anchor}"
    trust-anchor-signaling: no
    qname-minimisation: no
    infra-cache-min-rtt: 50
    {reserved}
remote-control:
    control-enable: no
stub-zone:
    name: "."
    stub-addr: {address}@{authority}
"""

Names = MutableMapping[str, MutableMapping[str, list[str]]]


class Fault(enum.Enum):
    """What makes a zone, and all below it, fail validation."""

    BOGUS = enum.auto()  # no signature fits
    EXPIRED = enum.auto()  # all signatures are over since yesterday
    WRONG_DS = enum.auto()  # the zone above names another key
    LAME = enum.auto()  # delegated, and nobody serves it


@dataclass(slots=True)
class Zone:
    """What one zone holds: name -> type -> records."""

    names: Names
    signed: bool = True
    fault: Fault | None = None
    spoilt: set[str] = field(default_factory=set)  # names whose signatures do not fit


def find_obstacle() -> str | None:
    """Say what is missing to run the servers here."""
    missing = [name for name in ("nsd", "unbound") if _find(name) is None]
    return f"{' and '.join(missing)} not installed" if missing else None


def _find(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@asynccontextmanager
async def open_dnssec(zones: Mapping[str, Zone], *, ttl: int = 300) -> AsyncIterator["Servers"]:
    """Serve the zones for as long as the block lasts. Raises RuntimeError when that cannot be."""
    with run_dnssec(zones, ttl=ttl) as servers:
        yield servers


@contextmanager
def run_dnssec(zones: Mapping[str, Zone], *, ttl: int = 300) -> Iterator["Servers"]:
    """Do the same without a loop: for a fixture that many tests share."""
    with tempfile.TemporaryDirectory(prefix="outgate-dns-") as directory:
        servers = Servers(zones, Path(directory), ttl=ttl)
        try:
            servers.publish()
            yield servers
        finally:
            servers.stop()


class Servers:
    """Both programs, and the zones that they serve."""

    def __init__(self, zones: Mapping[str, Zone], directory: Path, *, ttl: int) -> None:
        self.zones = zones
        self.ttl = ttl  # of positive and negative answers
        self._directory = directory
        self._signer = _Signer()
        self._running = ExitStack()
        self._serials = itertools.count(1)
        self._port = 0

    @property
    def endpoint(self) -> Endpoint:
        """Where Unbound answers; the same after ``publish``."""
        return Endpoint(_ADDRESS, self._port)

    def publish(self) -> None:
        """Sign the zones as they are now, and serve them and nothing else.

        Both programs are started again: no other way tells when the last old record is gone.
        Raises RuntimeError.
        """
        self.stop()
        self._write_zones()
        for left in reversed(range(_TRIES)):
            try:
                self._start()
            except RuntimeError:
                self.stop()
                if not left:
                    raise
            else:
                return

    def stop(self) -> None:
        """End both programs."""
        self._running.close()

    def _start(self) -> None:
        authority = _Nsd(self._directory, self._files())
        self._running.enter_context(authority)
        anchor = f". IN DNSKEY {self._signer.find_key(_ROOT)[1]}"
        unbound = _Unbound(self._directory, authority.port, anchor, port=self._port or None)
        self._running.enter_context(unbound)
        _await_answer(unbound)
        self._port = unbound.port

    def _files(self) -> dict[str, Path]:
        served = (name for name, zone in self.zones.items() if zone.fault is not Fault.LAME)
        return {
            name: self._directory / f"zone{number}.txt"
            for number, name in enumerate((_ROOT, *served))
        }

    def _write_zones(self) -> None:
        serial = next(self._serials)
        for name, file in self._files().items():
            zone = self.zones[name] if name != _ROOT else Zone({})
            made = self._make_zone(name, zone, serial)
            if zone.signed:
                self._signer.sign(made, zone)
            made.to_file(str(file), relativize=False)

    def _make_zone(self, origin: str, zone: Zone, serial: int) -> dns.zone.Zone:
        made = dns.zone.Zone(dns.name.from_text(origin), relativize=False)
        soa = _SOA.format(serial=serial, ttl=self.ttl)
        own: dict[str, Mapping[str, list[str]]] = {origin: {"SOA": [soa], "NS": ["ns.invalid."]}}
        for name, records in itertools.chain(
            own.items(), self._delegate(origin), zone.names.items()
        ):
            for kind, texts in records.items():
                if not texts:  # taken away by the test
                    continue
                made.find_node(dns.name.from_text(name), create=True).replace_rdataset(
                    dns.rdataset.from_text_list("IN", kind, self.ttl, texts)
                )
        return made

    def _delegate(self, parent: str) -> Iterator[tuple[str, Mapping[str, list[str]]]]:
        """Yield what the parent says of the zones below it."""
        for name, zone in self.zones.items():
            if self._find_parent(name) == parent:
                ds = [self._signer.make_ds(name, zone)] if zone.signed else []
                yield name, {"NS": ["ns.invalid."], "DS": ds}

    def _find_parent(self, name: str) -> str:
        above = name
        while above:
            above = above.partition(".")[2]
            if above in self.zones:
                return above
        return _ROOT


Key = tuple[ec.EllipticCurvePrivateKey, dns.rdtypes.ANY.DNSKEY.DNSKEY]


class _Signer:
    """The keys of all zones: one each, P-256, made when first wanted."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}

    def find_key(self, name: str) -> Key:
        if name not in self._keys:
            private = ec.generate_private_key(ec.SECP256R1())
            public = dns.dnssec.make_dnskey(
                private.public_key(), dns.dnssectypes.Algorithm.ECDSAP256SHA256, flags=257
            )
            self._keys[name] = private, public
        return self._keys[name]

    def make_ds(self, name: str, zone: Zone) -> str:
        # The key of another, so everything about the record is right but the digest.
        _, key = self.find_key(f"not {name}" if zone.fault is Fault.WRONG_DS else name)
        return str(dns.dnssec.make_ds(dns.name.from_text(name), key, "SHA256"))

    def sign(self, made: dns.zone.Zone, zone: Zone) -> None:
        """Add key, signatures and NSEC records, with the faults that are asked for."""
        assert made.origin is not None
        now = int(time.time())
        end = now - _DAY if zone.fault is Fault.EXPIRED else now + _DAY
        name = _ROOT if made.origin == dns.name.root else made.origin.to_text(True)
        dns.dnssec.sign_zone(
            made, keys=[self.find_key(name)], inception=now - 10 * _DAY, expiration=end
        )
        spoilt = {dns.name.from_text(one) for one in zone.spoilt}
        for owner, node in made.nodes.items():
            if zone.fault is Fault.BOGUS or owner in spoilt:
                for rdataset in node.rdatasets:
                    if rdataset.rdtype == dns.rdatatype.RRSIG:
                        node.replace_rdataset(_spoil(rdataset))
        if missing := spoilt - made.nodes.keys():
            raise RuntimeError(f"no such names to spoil: {', '.join(map(str, missing))}")


def _spoil(signatures: dns.rdataset.Rdataset) -> dns.rdataset.Rdataset:
    """Return signatures of the right form by nobody."""
    spoilt = []
    for one in signatures:
        assert isinstance(one, dns.rdtypes.ANY.RRSIG.RRSIG)
        octets = bytes([one.signature[0] ^ 1]) + one.signature[1:]
        spoilt.append(one.replace(signature=octets))
    return dns.rdataset.from_rdata_list(signatures.ttl, spoilt)


class _Server(Program):
    """A program with a configuration file; its output goes to a file beside that."""

    def __init__(self, directory: Path, port: int | None) -> None:
        super().__init__(port)
        self._directory = directory
        self._output = directory / f"{self.name}.out"

    def _spawn(self, *arguments: str, config: str) -> subprocess.Popen[bytes]:
        file = self._directory / f"{self.name}.conf"
        file.write_text(config)
        program = _find(self.name)
        if program is None:
            raise RuntimeError(f"{self.name} is not installed")
        with self._output.open("wb") as output:
            # A run of tests that is killed must not leave servers behind.
            return subprocess.Popen(
                tethered([program, *arguments, "-c", str(file)], signal.SIGTERM),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def read_output(self) -> str:
        """Return what it has printed."""
        return self._output.read_text("utf-8", "replace")[-4000:] if self._output.exists() else ""


class _Nsd(_Server):
    name = "nsd"

    def __init__(self, directory: Path, files: Mapping[str, Path]) -> None:
        super().__init__(directory, None)
        self._files = files

    def _launch(self) -> subprocess.Popen[bytes]:
        config = _NSD.format(address=_ADDRESS, port=self.port, directory=self._directory)
        zones = (_NSD_ZONE.format(name=name, file=file) for name, file in self._files.items())
        return self._spawn("-d", config=config + "".join(zones))


class _Unbound(_Server):
    name = "unbound"

    def __init__(self, directory: Path, authority: int, anchor: str, *, port: int | None) -> None:
        super().__init__(directory, port)
        self._authority = authority
        self._anchor = anchor

    def _launch(self) -> subprocess.Popen[bytes]:
        config = _UNBOUND.format(
            address=_ADDRESS,
            port=self.port,
            directory=self._directory,
            authority=self._authority,
            anchor=self._anchor,
            reserved="\n    ".join(f'local-zone: "{name}" nodefault' for name in _RESERVED),
        )
        return self._spawn("-d", config=config)


def _await_answer(unbound: _Unbound) -> None:
    """Wait until the root is resolved and validated. Raises RuntimeError."""
    query = dns.message.make_query(_ROOT, "SOA", flags=dns.flags.RD | dns.flags.AD)
    deadline = time.monotonic() + _PATIENCE
    said = "nothing"
    while time.monotonic() < deadline:
        try:
            reply = dns.query.udp(query, _ADDRESS, port=unbound.port, timeout=1)
        except (dns.exception.DNSException, OSError) as error:
            said = str(error)
        else:
            if reply.rcode() == dns.rcode.NOERROR and reply.flags & dns.flags.AD:
                return
            said = reply.to_text()
        time.sleep(0.02)
    raise RuntimeError(f"unbound does not validate the root: {said}\n{unbound.read_output()}")
