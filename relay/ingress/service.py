"""The ingress process: listeners, the store's health, and an orderly end.

serve
├── wait_for_stop          signals
├── _watch_store           once a second: is it there, how full is it?
├── events.run             writes the event log, and tells who listens
├── Pusher.run             hands in what was counted
├── Renewal.run            certificates: new files, and the end of the old ones
├── Furniture.run          what is kept fresh: networks, secrets, return paths
├── _tell_counts           once a minute: whom the door had to turn away
└── accept_loop ...        one per listening address
    └── _serve ...         one per connection: Session.run
        (_introduce first, if a balancer of ours passes it on: who is it?)
"""

import contextlib
import ipaddress
import logging
import socket

import trio

from relay.audit.trail import open_trail
from relay.config import Config
from relay.config.units import parse_network
from relay.errors import PeerClosed, StartError, StoreError, StoreUnavailable
from relay.events import EventLog
from relay.ingress.crowd import Crowd, find_most_sockets, find_room
from relay.ingress.desk import Desk, Furniture, furnish
from relay.ingress.renewal import Renewal
from relay.ingress.session import Session
from relay.net.certificates import Certificates, load_certificates
from relay.net.listen import accept_loop, allow_files, open_listener
from relay.net.proxyheader import receive_header
from relay.net.resolver import Resolver
from relay.net.stream import Stream
from relay.ready import say_ready
from relay.signals import wait_for_stop
from relay.store.broadcast import Broadcast
from relay.store.counters import Pusher
from relay.store.durability import require_durability
from relay.store.link import Link
from relay.store.opening import open_link
from relay.store.queue import Store

_log = logging.getLogger("outgate.ingress")

_LOOK = 1.0  # seconds between two looks at the store
_GRACE = 20.0  # seconds for open transactions when we stop
_SHED = b"421 4.3.2 Too many connections, try again later\r\n"
_MINUTE = 60.0  # seconds between two reports of the door
# A balancer sends its header when it connects. It is ours, so it hears nothing when it does not.
_HEADER_TIME = 5.0
_HEADERS = 256  # that are waited for at a time
_OTHER_FILES = 256  # the store's connections, look-ups, programs that are asked, files


async def serve(config: Config) -> None:
    """Accept mail until SIGTERM or SIGINT. Raises StartError."""
    tls = load_certificates(config.ingress.tls)
    link = open_link(config)
    try:
        for weakness in await require_durability(link, level=config.store.durability):
            _log.warning("the store can lose acknowledged mail: %s", weakness)
        events = EventLog(config.log.events, open_trail(config, "ingress", link), Broadcast(link))
        try:
            await _make_service(config, link, events, tls).run()
        finally:
            events.close()
    finally:
        await link.aclose()


def _make_service(
    config: Config, link: Link, events: EventLog, tls: Certificates | None
) -> "IngressService":
    service = IngressService(config, Store(link, config), events, room=_find_room(config))
    resolver = _make_resolver(config)
    service.furniture = furnish(config, link, events, service, tls=tls, resolver=resolver)
    return service


def _make_resolver(config: Config) -> Resolver | None:
    """A host without name servers accepts mail all the same."""
    try:
        return Resolver(config.dns)
    except StartError as error:
        _log.warning("senders' domains are not looked up: %s", error)
        return None


def _find_room(config: Config) -> int:
    """Return for how many connections this process may open files; say so if those are too few."""
    files, ingress = allow_files(), config.ingress
    others = _OTHER_FILES + (_HEADERS if ingress.proxies else 0)
    room = find_room(ingress, files - others)
    if room < ingress.max_connections:
        _log.warning(
            "ingress.max_connections is %d, but there will be room for %d: this process may open "
            "%d files and wants %d; raise that limit (LimitNOFILE= of systemd, ulimit -Hn)",
            ingress.max_connections,
            room,
            files,
            find_most_sockets(ingress) + others,
        )
    return room


class IngressService:
    """One ingress process. Also the ``Door`` of its sessions."""

    furniture: Furniture  # made after it: sessions ask it

    def __init__(
        self, config: Config, store: Store, events: EventLog, *, room: int | None = None
    ) -> None:
        """``room``: for how many connections, where that is less than ``max_connections``."""
        self.config = config
        self.store = store
        self.events = events
        self.stopping = False
        self._trouble: tuple[int, str, str] | None = None
        self._sessions: set[Session] = set()
        self._proxies = [parse_network(network) for network in config.ingress.proxies]
        self._headers = 0  # that are waited for
        self.crowd = Crowd(
            config.ingress, lambda client: self.desk.admission.is_near(client), room=room
        )
        # What sessions ask the door, the crowd answers.
        self.find_patience = self.crowd.find_patience
        self.may_shake_hands = self.crowd.may_shake_hands
        self.reserve = self.crowd.reserve
        self.release = self.crowd.release

    @property
    def desk(self) -> Desk:
        """What all sessions share."""
        return self.furniture.desk

    def find_trouble(self) -> tuple[int, str, str] | None:
        """Return the reply to MAIL while no message can be taken; None when all is well."""
        if self.stopping:
            return 421, "4.3.2", "Service going down, try again"
        if self._trouble is None and self.events.trouble:
            # What would be missing from the audit trail is not accepted (relay/audit/trail.py).
            return 451, "4.3.0", "Cannot take messages now, try again later"
        return self._trouble

    async def run(self) -> None:
        """Listen and serve. Raises StartError when an address cannot be had."""
        listeners = self._open_listeners()
        try:
            # Sets without a seed: nobody is to be turned away for their sake if the store knows them.
            await self.furniture.networks.read_store()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.events.run)
                nursery.start_soon(self._watch_store)
                nursery.start_soon(
                    Pusher(self.store.link, "ingress", lambda: {"": len(self._sessions)}).run
                )
                nursery.start_soon(self._tell_counts)
                if self.desk.tls is not None:
                    nursery.start_soon(Renewal(self.desk.tls, self.events).run)
                nursery.start_soon(self.furniture.run)
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
        sock.setblocking(False)
        # A reply is one write; waiting for more to send with it would only delay the peer.
        with contextlib.suppress(
            OSError
        ):  # it may have gone again; not everywhere is that told here
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._is_proxy(address):
            if self._headers >= _HEADERS:
                self._turn_away(sock)
            else:
                self._headers += 1  # here, not in the task: a whole batch comes before that runs
                nursery.start_soon(self._introduce, sock, address, name="introduction")
        elif (session := self._let_in(sock, address)) is not None:
            nursery.start_soon(self._serve, session, name="session")

    def _is_proxy(self, address: str) -> bool:
        if not self._proxies:
            return False
        peer = ipaddress.ip_address(address)
        return any(peer in network for network in self._proxies)

    async def _introduce(self, sock: socket.socket, address: str) -> None:
        """Learn from a balancer whose connection this is, then serve that client."""
        try:
            client = await self._find_client(sock, address)
        except BaseException:
            sock.close()
            raise
        finally:
            self._headers -= 1
        if client is None:
            sock.close()
        elif (session := self._let_in(sock, client)) is not None:
            await self._serve(session)

    async def _find_client(self, sock: socket.socket, address: str) -> str | None:
        """Return the client's address; None when no balancer should begin as this one does."""
        with trio.move_on_after(_HEADER_TIME):
            try:
                return (await receive_header(sock)).client or address
            except PeerClosed:
                return None  # a check whether we listen; what else it could be, it is over
            except ValueError as error:
                _log.debug("from %s: %s", address, error)
        self.crowd.counts.headers += 1
        return None

    def _let_in(self, sock: socket.socket, client: str) -> Session | None:
        """Begin a session if there is room, or can be; otherwise say that there is none."""
        if not self.crowd.make_room(client):
            self._turn_away(sock)
            return None
        session = Session(Stream(sock), client, self.desk)
        self._sessions.add(session)
        self.crowd.enter(session)
        return session

    @staticmethod
    def _turn_away(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it may have gone again
            sock.send(_SHED)
        sock.close()

    async def _serve(self, session: Session) -> None:
        try:
            await session.run()
        except Exception:
            # One broken session must not take the others with it. The peer got no 250.
            _log.exception("a session failed; its peer will try again")
        finally:
            self._sessions.discard(session)
            self.crowd.leave(session)

    async def _tell_counts(self) -> None:
        """Tell whom the door had to turn away, when it did."""
        while True:
            await trio.sleep(_MINUTE)
            for line in self.crowd.take_counts().tell("minute"):
                _log.warning("%s", line)

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
