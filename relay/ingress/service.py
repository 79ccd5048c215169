"""The ingress process: listeners, the store's health, and an orderly end.

serve
├── wait_for_stop          signals
├── _watch_store           once a second: is it there, how full is it?
├── events.run             writes the event log
├── Renewal.run            certificates: new files, and the end of the old ones
├── ReturnPaths.run        senders' domains: do they still accept mail?
└── accept_loop ...        one per listening address
    └── Session.run ...    one per connection
"""

import contextlib
import functools
import ipaddress
import logging
import socket

import trio

from relay.config import Config
from relay.errors import StartError, StoreError, StoreUnavailable
from relay.events import EventLog
from relay.ingress.admission import Admission
from relay.ingress.renewal import Renewal
from relay.ingress.returnpath import ReturnPaths
from relay.ingress.secret import make_pattern
from relay.ingress.session import Desk, Session
from relay.net.certificates import load_certificates
from relay.net.listen import accept_loop, open_listener
from relay.net.resolver import Resolver
from relay.net.stream import Stream
from relay.ready import say_ready
from relay.signals import wait_for_stop
from relay.smtp.server import ServerSettings
from relay.store.durability import require_durability
from relay.store.embedded import find_url
from relay.store.link import Link
from relay.store.queue import Store

_log = logging.getLogger("outgate.ingress")

_LOOK = 1.0  # seconds between two looks at the store
_GRACE = 20.0  # seconds for open transactions when we stop
_SHED = b"421 4.3.2 Too many connections, try again later\r\n"


async def serve(config: Config) -> None:
    """Accept mail until SIGTERM or SIGINT. Raises StartError."""
    tls = load_certificates(config.ingress.tls)
    link = Link(find_url(config), timeout=config.store.timeout)
    try:
        for weakness in await require_durability(link, level=config.store.durability):
            _log.warning("the store can lose acknowledged mail: %s", weakness)
        service = IngressService(config, Store(link, config), EventLog(config.log.events))
        service.desk = Desk(
            config=config,
            settings=_make_settings(config),
            admission=Admission(config),
            store=service.store,
            events=service.events,
            tls=tls,
            door=service,
            secrets={t.name: make_pattern(t.header) for t in config.tenant if t.header},
            return_paths=_make_return_paths(config),
        )
        await service.run()
    finally:
        await link.aclose()


def _make_return_paths(config: Config) -> ReturnPaths | None:
    """A host without name servers accepts mail all the same."""
    try:
        return ReturnPaths(Resolver(config.dns))
    except StartError as error:
        _log.warning("senders' domains are not looked up: %s", error)
        return None


def _make_settings(config: Config) -> ServerSettings:
    ingress = config.ingress
    return ServerSettings(
        hostname=ingress.hostname,
        max_message=ingress.max_message,
        max_recipients=ingress.max_recipients,
        chunking=ingress.chunking,
        starttls=bool(ingress.tls.certificate),
        tls_required=ingress.tls.required,
        requiretls=ingress.tls.requiretls,
        repair_line_endings=ingress.line_endings == "repair",
    )


class IngressService:
    """One ingress process. Also the ``Door`` of its sessions."""

    desk: Desk

    def __init__(self, config: Config, store: Store, events: EventLog) -> None:
        self.config = config
        self.store = store
        self.events = events
        self.stopping = False
        self._trouble: tuple[int, str, str] | None = None
        self._sessions: set[Session] = set()

    def find_trouble(self) -> tuple[int, str, str] | None:
        """Return the reply to MAIL while no message can be taken; None when all is well."""
        if self.stopping:
            return 421, "4.3.2", "Service going down, try again"
        return self._trouble

    async def run(self) -> None:
        """Listen and serve. Raises StartError when an address cannot be had."""
        listeners = self._open_listeners()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.events.run)
                nursery.start_soon(self._watch_store)
                if self.desk.tls is not None:
                    nursery.start_soon(Renewal(self.desk.tls, self.events).run)
                if self.desk.return_paths is not None:
                    nursery.start_soon(self.desk.return_paths.run)
                async with trio.open_nursery() as sessions:
                    async with trio.open_nursery() as accepting:
                        for listener in listeners:
                            accepting.start_soon(
                                accept_loop, listener, lambda s, a: self._take(sessions, s, a)
                            )
                        accepting.start_soon(wait_for_stop, lambda: self._stop(accepting, sessions))
                        say_ready()
                    # Not only at the end: until a listener is closed, the kernel goes on taking
                    # connections for it, and nobody would serve them.
                    _close(listeners)
                nursery.cancel_scope.cancel()
        finally:
            _close(listeners)

    def _open_listeners(self) -> list[socket.socket]:
        shared = self.config.ingress.processes > 1
        listeners: list[socket.socket] = []
        try:
            for endpoint in self.config.ingress.listen:
                listeners.append(open_listener(endpoint.host, endpoint.port, shared=shared))  # noqa: PERF401
        except BaseException:
            _close(listeners)
            raise
        return listeners

    def _stop(self, accepting: trio.Nursery, sessions: trio.Nursery) -> None:
        """Take no new connections, close idle sessions, let the others finish their message."""
        self.stopping = True
        sessions.cancel_scope.deadline = trio.current_time() + _GRACE
        for session in list(self._sessions):
            session.stop()
        if not self._sessions:
            sessions.cancel_scope.cancel()
        accepting.cancel_scope.cancel()

    def _take(self, nursery: trio.Nursery, sock: socket.socket, address: str) -> None:
        """A connection is here: serve it, or say that there are too many."""
        if len(self._sessions) >= self.config.ingress.max_connections:
            sock.setblocking(False)
            with contextlib.suppress(OSError):  # it may have gone again
                sock.send(_SHED)
            sock.close()
            return
        # A reply is one write; waiting for more to send with it would only delay the peer.
        with contextlib.suppress(OSError):  # as above; not everywhere is it told this early
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session = Session(Stream(sock), _unmap(address), self.desk)
        self._sessions.add(session)
        nursery.start_soon(self._serve, session, name="session")

    async def _serve(self, session: Session) -> None:
        try:
            await session.run()
        except Exception:
            # One broken session must not take the others with it. The peer got no 250.
            _log.exception("a session failed; its peer will try again")
        finally:
            self._sessions.discard(session)

    async def _watch_store(self) -> None:
        """Keep ``find_trouble`` true: refuse before the store would."""
        while True:
            self._trouble = await self._look_at_store()
            await trio.sleep(_LOOK)

    async def _look_at_store(self) -> tuple[int, str, str] | None:
        try:
            used, limit = await self.store.read_memory()
        except (StoreUnavailable, StoreError) as error:
            if self._trouble is None or self._trouble[0] != 451:
                _log.error("%s; senders are asked to come back", error)
            return 451, "4.3.0", "Cannot store messages now, try again later"
        if limit and used > limit * self.config.store.memory_mark:
            if self._trouble is None or self._trouble[0] != 452:
                _log.error(
                    "the store is at %d of %d MiB (store.memory_mark): senders are asked to wait",
                    used >> 20,
                    limit >> 20,
                )
            return 452, "4.3.1", "Out of space, try again later"
        if self._trouble is not None:
            _log.warning("the store is well again: accepting mail")
        return None


def _close(listeners: list[socket.socket]) -> None:
    for listener in listeners:
        listener.close()


@functools.lru_cache(maxsize=4096)
def _unmap(address: str) -> str:
    """``::ffff:192.0.2.1`` is ``192.0.2.1``; a zone (``%eth0``) says nothing about the sender."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(parsed)
