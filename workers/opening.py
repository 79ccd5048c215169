"""Opening sessions: host after host, TLS as it is demanded of each, and what is learnt from it.

Opportunistic TLS that fails, or stalls, is done without: RFC 7435 §3, better in clear than not. Unless
the hosts have shown validated TLS for a while (``tls.downgrade``). Where TLS is demanded nothing goes out
in clear: the next host is tried, and when there is none the message waits.
"""

import time
from dataclasses import dataclass

import trio

from relay.config import Config
from relay.config.schema import Source
from relay.counters import COUNTERS
from relay.errors import NetworkError, PeerSilent, SourceUnusable, TlsFailed
from relay.events import EventLog, encode_event
from relay.model import Disposition
from relay.net.egress import Egress
from relay.store.learnt import Learnt
from relay.store.queue import Store
from workers.classify import classify_error
from workers.hosts import Host
from workers.peer import NOT_OFFERED, HostFailed, Peer
from workers.replies.classifier import load_classifier
from workers.route import Path, Unprotected
from workers.tls.account import Account
from workers.tls.guard import Failing, Guard, TlsUntrusted
from workers.tls.learnt import Memory
from workers.tls.pkix import Authorities
from workers.tls.proof import NOTHING, Proof
from workers.tls.sts import StsPolicies
from workers.tls.tally import Tally

# Not in the RFC: how long connecting may take. Longer than two lost SYNs (1 + 2 s), short enough
# to try all hosts of a domain within one claim.
_CONNECT_PATIENCE = 30.0
_CLEAR = Guard("none", "none")


@dataclass(slots=True)
class Opener:
    """Opens sessions of one worker process. Without a memory nothing is expected of hosts."""

    authorities: Authorities
    account: Account | None = None
    memory: Memory | None = None
    events: EventLog | None = None
    refuses_downgrade: bool = False

    async def open(self, path: Path, source: Source, egress: Egress, *, domain: str = "") -> Peer:
        """Open a session with the first host of ``path`` that will have one, out of ``egress``.

        ``domain``: whose mail it is opened for; "": it is not counted. Raises HostFailed when no
        host will, with the outcome of the last one tried (RFC 5321 §5.1); SourceUnusable when our
        own address is the trouble.
        """
        failure: HostFailed | None = None
        for host in path.hosts:
            call = _Call(self, path, host, source, egress, domain)
            try:
                peer = await call.make()
            except HostFailed as error:
                error.host, error.proof = host, call.proof
                failure = error
            else:
                _count(peer.proof)
                return peer
        assert failure is not None, "a path has at least one host"
        raise failure

    def note_unfit(self, domain: str, found: Unprotected) -> None:
        """No host of a domain may be used, because of what TLS with it should be."""
        # What bounces is what a sender demanded, and nothing that the receiver has promised.
        if self.account is not None and found.disposition is not Disposition.BOUNCED:
            self.account.note_unfit(domain, found.host, found.failing, found.text)


def make_opener(
    config: Config,
    store: Store,
    policies: StsPolicies | None,
    tally: Tally | None,
    events: EventLog,
) -> Opener:
    """Return the opener of a worker process. Raises StartError for a bad ``delivery.ca_file``."""
    load_classifier()  # it compiles its rules: not with the first refusal, when all sessions wait for it
    return Opener(
        Authorities.load(config.delivery.ca_file),
        Account(tally, policies) if tally is not None else None,
        Memory(Learnt(store.link), config.tls),
        events,
        refuses_downgrade=config.tls.downgrade == "refuse",
    )


def _count(proof: Proof) -> None:
    """A session is open: with what TLS?"""
    version = proof.protocol.partition(" ")[0]
    level = "verified" if proof.verified else "opportunistic" if version else "none"
    COUNTERS.add("tls_sessions", ("out", level, version))


@dataclass(slots=True)
class _Call:
    """The try with one host."""

    opener: Opener
    path: Path
    host: Host
    source: Source
    egress: Egress
    domain: str
    proof: Proof = NOTHING  # of a session that was not good enough

    async def make(self) -> Peer:
        """Raises HostFailed, SourceUnusable."""
        guard = self.host.guard
        try:
            peer = await self._open(guard)
        except TlsFailed as error:
            failing = error.failing if isinstance(error, TlsUntrusted) else "validation-failure"
            self._count(failing, str(error))
            if guard.demands_tls:
                raise HostFailed(classify_error(self._explain(error), "STARTTLS")) from error
            return await self._open_in_clear(failing, str(error))
        except SourceUnusable:
            raise
        except NetworkError as error:
            raise HostFailed(classify_error(error)) from error
        try:
            await self._learn(peer)
        except HostFailed:
            await peer.quit()
            raise
        except BaseException:
            peer.close()
            raise
        return peer

    async def _learn(self, peer: Peer) -> None:
        """Count and remember what a host has shown. Raises HostFailed when it is too little."""
        if not peer.proof.protocol and self.host.guard.level != "none":
            # Nothing demanded TLS, and this host does not offer it.
            peer.proof = Proof(failing="starttls-not-supported", text=NOT_OFFERED)
            self._count(peer.proof.failing, NOT_OFFERED)
            await self._check_downgrade(NOT_OFFERED)
        elif peer.proof.protocol:
            self._count(peer.proof.failing, peer.proof.text)
            if peer.proof.verified and self.opener.memory is not None:
                await self.opener.memory.note(self.path.group)

    def _explain(self, error: TlsFailed) -> TlsFailed:
        """Say what is wrong where, who wants it right, and who can make it so."""
        host = self.host
        remedy = "its owner has mended that"
        if host.guard.policy == "site":
            remedy += ", or tls says otherwise"
        return TlsFailed(
            f"{host.name} ({host.address}): {error}; {host.guard.demand}, so mail waits until {remedy}"
        )

    async def _open_in_clear(self, failing: Failing, reason: str) -> Peer:
        """Nothing demanded TLS, and this host's is broken."""
        await self._check_downgrade(reason)
        try:
            peer = await self._open(_CLEAR)
            peer.proof = Proof(failing=failing, text=reason)
            return peer
        except SourceUnusable:
            raise
        except NetworkError as error:
            raise HostFailed(classify_error(error)) from error

    async def _check_downgrade(self, reason: str) -> None:
        """Say so when a host group shows less than it used to. Raises HostFailed."""
        opener, group = self.opener, self.path.group
        if opener.memory is None or not await opener.memory.expects_tls(group):
            return
        text = f"{self.host.name} has shown validated TLS until lately, and now: {reason}"
        if opener.events is not None:
            event = {
                "time": time.time(),
                "event": "tls-downgraded",
                "domain": self.domain,
                "site": self.path.site,
                "source": self.source.name,
                "host": self.host.name,
                "refused": opener.refuses_downgrade,
                "text": text,
            }
            opener.events.write(encode_event(event))
        if opener.refuses_downgrade:
            error = TlsFailed(f"{text} (tls.downgrade)")
            raise HostFailed(classify_error(error, "STARTTLS"))

    def _count(self, failing: Failing, text: str) -> None:
        if self.opener.account is not None and self.domain:
            self.opener.account.note(self.domain, self.host, self.source.address, failing, text)

    async def _open(self, guard: Guard) -> Peer:
        host, stream = self.host, None
        with trio.move_on_after(_CONNECT_PATIENCE):
            stream = await self.egress.connect(host.address, host.port)
        if stream is None:
            raise PeerSilent(f"cannot connect to {host.address} port {host.port}: timed out")
        peer = Peer(stream, host, self.source.ehlo, site=self.path.site)
        try:
            await peer.open(guard, self.opener.authorities)
        except HostFailed:
            await peer.quit()  # RFC 5321 §3.1: after a 554 greeting, too
            raise
        except BaseException:
            self.proof = peer.proof
            peer.close()
            raise
        return peer
