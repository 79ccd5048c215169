"""Trying TLS with a host without sending anything: what it shows, and what a strict sender says to it.

``visit`` opens a session as a worker does, and ends it behind EHLO. ``probe`` is for our own ingress:
the checks of those who send to it, Google's "Test TLS connection" of a route among them.
"""

import dataclasses
import datetime as dt
import ipaddress
from collections.abc import Sequence
from typing import Literal

import msgspec
import trio
from cryptography import x509

from relay.config import Config
from relay.config.schema import Source
from relay.errors import NetworkError, SourceUnusable, TlsFailed
from relay.net.certificates import AHEAD
from relay.net.connect import bind_source, connect
from relay.net.resolver import Found, Resolver
from relay.net.stream import Stream
from workers.hosts import MAX_ADDRESSES, Host, Hosts, find_family, is_address
from workers.peer import HostFailed, Peer
from workers.quote import limit
from workers.tls.chain import name_issuer, read_chain, read_names
from workers.tls.guard import Failing, Guard, TlsUntrusted
from workers.tls.pkix import Authorities, covers
from workers.tls.shown import Shown, climb, is_self_issued, show_chain

PROBE_FOR = 30.0  # s, for everything
VISIT_FOR = 15.0  # ... and for one address of a host
_GOODBYE = 2.0  # of this for QUIT
_CLEAR = Guard("none", "none")
_UNSPECIFIED = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - to connect from, not to listen on
_TRIED_NAMES = 5  # of a certificate, to look for a path

State = Literal["verified", "unverified", "clear", "failed"]


class Session(msgspec.Struct, frozen=True):
    """One session up to EHLO, in TLS if it came to that. ``text``: why it is no better than it is."""

    address: str
    port: int
    state: State
    protocol: str = ""  # "TLSv1.3 TLS_AES_256_GCM_SHA384"
    verified: Literal["", "dane-ee", "dane-ta", "pkix"] = ""
    requiretls: bool = False  # offered (RFC 8689)
    certificates: tuple[Shown, ...] = ()
    failing: Failing = ""
    text: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Visit:
    """A session, and what only programs can read of it."""

    session: Session
    chain: tuple[x509.Certificate, ...] = ()
    broken: bool = False  # there was no session because of TLS


def choose_address(source: Source, target: str) -> str:
    """Return the address to connect from: the source's if it is on this machine, else any."""
    if not source.proxy and find_family(source.address) is find_family(target):
        try:
            bind_source(source.address).close()
        except SourceUnusable:
            pass
        else:
            return source.address
    return _UNSPECIFIED[6 if ":" in target else 4]


async def visit(
    host: Host, source: Source, authorities: Authorities, *, patience: float = VISIT_FOR
) -> Visit:
    """Open a session with a host as its guard demands, say EHLO and QUIT. Raises nothing.

    Where nobody demands TLS and the host's is broken, it is opened in clear, as a worker would.
    ``patience``: seconds, for each of the two.
    """
    visited = await _visit(host, source, authorities, patience)
    if not visited.broken or host.guard.demands_tls:
        return visited
    bare = dataclasses.replace(host, guard=_CLEAR)
    again = (await _visit(bare, source, authorities, patience)).session
    reason = visited.session
    if again.state == "failed":
        both = limit(f"{reason.text}; and in clear: {again.text}")
        return dataclasses.replace(visited, session=msgspec.structs.replace(reason, text=both))
    session = msgspec.structs.replace(
        again, failing=reason.failing, text=reason.text, certificates=reason.certificates
    )
    return dataclasses.replace(visited, session=session)


async def _visit(host: Host, source: Source, authorities: Authorities, patience: float) -> Visit:
    address, port = host.address, host.port
    deadline = trio.current_time() + patience
    stream, text = None, f"cannot connect to {address} port {port}: timed out"
    with trio.move_on_at(deadline):
        try:
            stream = await connect(address, port, source=choose_address(source, address))
        except NetworkError as error:
            text = str(error)
    if stream is None:
        return Visit(Session(address, port, "failed", text=text))
    peer = Peer(stream, host, source.ehlo)
    try:
        visited = await _talk(peer, stream, authorities, deadline)
        if visited.session.state != "failed":
            await peer.quit()
    finally:
        peer.close()
    return visited


async def _talk(peer: Peer, stream: Stream, authorities: Authorities, deadline: float) -> Visit:
    state: State = "failed"
    failing: Failing = ""
    text = "no answer: timed out"
    with trio.move_on_at(deadline):
        try:
            await peer.open(peer.host.guard, authorities)
            state, failing, text = _judge(peer)
        except TlsUntrusted as error:
            failing, text = error.failing, str(error)
        except TlsFailed as error:
            failing, text = "validation-failure", str(error)
        except HostFailed as error:
            text = f"{error.outcome.code or ''} {error}".strip()
        except NetworkError as error:
            text = str(error)
    if state == "failed" and not failing and stream.tls is not None and not peer.proof.protocol:
        failing, text = "validation-failure", "the TLS handshake does not come to an end"
    chain = read_chain(stream.tls) if stream.tls is not None else ()
    session = Session(
        peer.host.address,
        peer.host.port,
        state,
        protocol=stream.protocol,
        verified=peer.proof.verified,
        requiretls=peer.requiretls,
        certificates=show_chain(chain, dt.datetime.now(dt.UTC)),
        failing=failing,
        text=limit(text),
    )
    return Visit(session, chain, broken=state == "failed" and bool(failing))


def _judge(peer: Peer) -> tuple[State, Failing, str]:
    """Return what an open session is worth."""
    proof = peer.proof
    if proof.protocol:
        return ("verified" if proof.verified else "unverified"), proof.failing, proof.text
    if peer.host.guard.level == "none":
        return "clear", "", "the configuration says so (tls = none)"
    return "clear", "starttls-not-supported", "the host does not offer STARTTLS"


# -- our own ingress, as others see it


class Check(msgspec.Struct, frozen=True):
    """One thing that a strict sender looks at. ``advice``: what to do about it."""

    name: Literal["connection", "starttls", "tls", "chain", "name", "validity"]
    state: Literal["ok", "warning", "failed", "skipped"]
    text: str
    advice: str = ""


class Probed(msgspec.Struct, frozen=True):
    """What became of it all. ``ok``: a sender that demands validated TLS would send."""

    ok: bool
    host: str
    port: int
    name: str  # that the certificate must be for
    address: str  # "": none was found
    protocol: str
    requiretls: bool
    checks: tuple[Check, ...]
    certificates: tuple[Shown, ...]
    trusted: str  # the authorities that we know
    tlsa_name: str  # where TLSA records for this host belong; "": nowhere


async def probe(config: Config, host: str, port: int, *, name: str = "") -> Probed:
    """Check a host as Google checks the host of a route, and more. Bounded by PROBE_FOR.

    ``name``: the one to ask and look for, instead of ``host``: before the DNS leads there, say.
    Raises StartError for a ``delivery.ca_file`` that cannot be used, or a machine without DNS.
    """
    authorities = Authorities.load(config.delivery.ca_file)
    name = (name or host).lower().rstrip(".")
    if is_address(name):
        name = str(ipaddress.ip_address(name))  # as certificates are read
    visited = await _find_and_visit(config, host, port, name, authorities)
    checks = tuple(_check(visited, name, authorities, dt.datetime.now(dt.UTC)))
    session = visited.session
    return Probed(
        ok=all(check.state != "failed" for check in checks),
        host=host,
        port=port,
        name=name,
        address=session.address,
        protocol=session.protocol,
        requiretls=session.requiretls,
        checks=checks,
        certificates=session.certificates,
        trusted=authorities.origin,
        tlsa_name="" if is_address(name) else f"_{port}._tcp.{name}.",
    )


async def _find_and_visit(
    config: Config, host: str, port: int, name: str, authorities: Authorities
) -> Visit:
    """Try the addresses of a host until one takes the connection."""
    deadline = trio.current_time() + PROBE_FOR - _GOODBYE
    answer: Found[str] | str = f"{host}: no answer from the DNS"
    with trio.move_on_at(deadline):
        plain = host.lower().rstrip(".")
        answer = (await Hosts(config, Resolver(config.dns)).find([plain], None))[plain]
    if isinstance(answer, str) or not answer.records:
        text = answer if isinstance(answer, str) else f"{host} has no address in the DNS"
        return Visit(Session("", port, "failed", text=text))
    guard = Guard("opportunistic", "opportunistic", (name,))
    visits: list[Visit] = []
    for address in answer.records[:MAX_ADDRESSES]:
        patience = min(VISIT_FOR, max(0.0, deadline - trio.current_time()))
        place = Host(name, address, port, guard)
        visits.append(await _visit(place, config.source[0], authorities, patience))
        if visits[-1].session.state != "failed" or visits[-1].broken:
            break
    return visits[-1]


def _check(
    visited: Visit, name: str, authorities: Authorities, now: dt.datetime
) -> Sequence[Check]:
    checks = [*_check_session(visited)]
    if not visited.chain:
        text = "no certificate was seen"
        return [*checks, *(Check(what, "skipped", text) for what in _OF_CERTIFICATES)]
    return [
        *checks,
        _check_chain(visited.chain, authorities, now),
        _check_name(visited.chain[0], name),
        _check_validity(visited.chain, now),
    ]


def _check_session(visited: Visit) -> Sequence[Check]:
    session = visited.session
    place = f"{session.address or '?'} port {session.port}"
    if session.state == "failed" and not visited.broken and not session.protocol:
        unseen = "there was no session"
        return (
            Check("connection", "failed", session.text, _ADVICE["connection"]),
            Check("starttls", "skipped", unseen),
            Check("tls", "skipped", unseen),
        )
    connection = Check("connection", "ok", place)
    if session.state == "clear":
        return (
            connection,
            Check("starttls", "failed", "not offered", _ADVICE["starttls"]),
            Check("tls", "skipped", "there was no handshake"),
        )
    offered = Check("starttls", "ok", "offered")
    if session.state == "failed":
        return connection, offered, Check("tls", "failed", session.text, _ADVICE["tls"])
    return connection, offered, Check("tls", "ok", session.protocol)


def _check_chain(
    chain: Sequence[x509.Certificate], authorities: Authorities, now: dt.datetime
) -> Check:
    """Look for a path to an authority that we trust, whatever name and dates are.

    These are checks of their own: so the leaf is held against one of its own names, and at a time
    when it was valid.
    """
    leaf = chain[0]
    names = [name.replace("*", "x") for name in read_names(leaf)[:_TRIED_NAMES]]
    if not names:
        return Check("chain", "skipped", "cannot be told of a certificate without a name")
    try:
        then = max(leaf.not_valid_before_utc, min(now, leaf.not_valid_after_utc))
        authorities.verify(chain, names, then)
    except TlsUntrusted as error:
        return Check("chain", "failed", limit(str(error)), _advise_chain(climb(chain)))
    except Exception:  # what chain.py warns of
        return Check("chain", "failed", "the certificate cannot be read", _ADVICE["tls"])
    return Check("chain", "ok", f"issued by {name_issuer(leaf)}; leads to an authority we trust")


def _advise_chain(path: Sequence[x509.Certificate]) -> str:
    top = path[-1]
    if is_self_issued(top):
        return (
            "get a certificate from a public authority; for one of your own, name it in "
            "delivery.ca_file of those who send here"
        )
    return (
        f"the certificate of {name_issuer(top)} was not sent: put all intermediate ones behind "
        "yours in the file (fullchain.pem, not cert.pem)"
    )


def _check_name(leaf: x509.Certificate, name: str) -> Check:
    found = read_names(leaf)
    if any(covers(pattern, name) for pattern in found):
        return Check("name", "ok", f"{name} is in the certificate")
    shown = ", ".join(limit(one, 80) for one in found[:_TRIED_NAMES]) or "no host name"
    more = f" and {len(found) - _TRIED_NAMES} more" if len(found) > _TRIED_NAMES else ""
    advice = f"get one for {name}, or let senders use a name that is in it"
    return Check("name", "failed", f"the certificate is for {shown}{more}, not {name}", advice)


def _check_validity(chain: Sequence[x509.Certificate], now: dt.datetime) -> Check:
    """Look at all dates: a certificate is worth no more than the one above it."""
    try:
        # Roots that are sent along matter to nobody.
        path = [one for n, one in enumerate(climb(chain)) if not (n and is_self_issued(one))]
        first = min(path, key=lambda one: one.not_valid_after_utc)
        starts = max(one.not_valid_before_utc for one in path)
        ends = first.not_valid_after_utc
    except Exception:  # what chain.py warns of
        return Check("validity", "failed", "its dates cannot be read", _ADVICE["tls"])
    whose = (
        ""
        if first is path[0]
        else f", that of its issuer {name_issuer(path[path.index(first) - 1])}"
    )
    if ends < now:
        text = f"expired on {ends:%Y-%m-%d %H:%M} UTC{whose}"
        return Check("validity", "failed", text, _ADVICE["expired"])
    if now < starts:
        text = f"not valid before {starts:%Y-%m-%d %H:%M} UTC"
        return Check("validity", "failed", text, "wait, or set the clock of this host right")
    days = (ends - now) // dt.timedelta(days=1)
    text = f"until {ends:%Y-%m-%d} ({days} {'day' if days == 1 else 'days'} left){whose}"
    if ends - now < dt.timedelta(days=AHEAD):
        return Check("validity", "warning", text, _ADVICE["validity"])
    return Check("validity", "ok", text)


_OF_CERTIFICATES: tuple[Literal["chain", "name", "validity"], ...] = ("chain", "name", "validity")
_ADVICE = {
    "connection": "does the service run, listen on this address, and let this machine in?",
    "starttls": "name certificate and key in [ingress.tls], and start the ingress again",
    "tls": "offer TLS 1.2 or 1.3, with a certificate that senders can read",
    "validity": "renew it: after its end, senders that verify it keep their mail",
    "expired": "renew it: senders that verify it keep their mail, or return it",
}
