"""The admin process: what is seen and steered over HTTP, beside the mail and never in its way.

serve
├── wait_for_stop     signals
├── Pulse.run         is the store there?
├── Snapshot.run      what waits, counted from time to time
├── Tokens.run        who may come in
├── Hearing.run       events as they happen
├── Records.run       ... written down, to be searched; and figures over time
└── Server.run        HTTP; a task for each connection

It starts without the store, and stays when that goes: then it is what says so.
"""

import contextlib
import functools
import logging
import socket
from collections.abc import Sequence

import trio

from relay.config import Config
from relay.errors import OutgateError
from relay.net.listen import allow_files, open_listener
from relay.ready import say_ready
from relay.signals import wait_for_stop
from relay.store.link import Link
from relay.store.opening import make_link, open_link
from relay.store.queue import Store
from workers.admin.hearing import Hearing
from workers.admin.http.application import make_application
from workers.admin.http.server import Server
from workers.admin.http.tokens import Tokens
from workers.admin.metrics import Metrics
from workers.admin.office import Office
from workers.admin.pulse import Pulse
from workers.admin.records import Records
from workers.admin.snapshot import Snapshot
from workers.views.status import read_status

_log = logging.getLogger("outgate.admin")

_PATIENCE = 2.0  # seconds that the store may take for an answer to who only looks
LEISURE = 4  # turns of the loop: what views ask together starts in nurseries within nurseries


async def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT. Raises StartError."""
    tokens = Tokens(config.admin.token_file)
    with contextlib.ExitStack() as opened:
        listeners = [
            opened.enter_context(open_listener(one.host, one.port, setting="admin.listen"))
            for one in config.admin.listen
        ]
        for listener in listeners:
            _log.info("dashboard: %s", spell_address(listener))
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for_stop, stop.set)
            await run(config, tokens, listeners, stop)
            nursery.cancel_scope.cancel()


async def run(
    config: Config,
    tokens: Tokens,
    listeners: Sequence[socket.socket],
    stop: trio.Event,
    *,
    task_status: trio.TaskStatus[Office] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve on sockets that listen, until ``stop``. Raises StartError where no store is known."""
    allow_files()
    acting = open_link(config)
    looking = make_link(acting.url, timeout=min(_PATIENCE, config.store.timeout), leisure=LEISURE)
    office = make_office(config, looking, acting, stop)
    records = Records(office)
    try:
        async with trio.open_nursery() as nursery:
            for task in (office.pulse, office.snapshot, office.hearing, tokens, records):
                nursery.start_soon(task.run)
            say_ready()
            task_status.started(office)
            await Server(make_application(office, tokens)).run(listeners, stop)
            nursery.cancel_scope.cancel()
    finally:
        records.close()
        await looking.aclose()
        await acting.aclose()


def make_office(config: Config, looking: Link, acting: Link, stop: trio.Event) -> Office:
    """Return the office, with what needs nothing but the store."""
    store = Store(looking, config)
    office = Office(
        config=config,
        store=store,
        acting=Store(acting, config),
        pulse=Pulse(looking),
        snapshot=Snapshot(store),
        hearing=Hearing(acting.url),
        stop=stop,
    )
    office.metrics = functools.partial(_render, office, Metrics(store, config))
    return office


def spell_address(listener: socket.socket) -> str:
    """Return where a browser finds what listens there."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


async def _render(office: Office, metrics: Metrics) -> bytes:
    """Return the exposition; without a store, what can be said without it."""
    try:
        office.pulse.check()
        picture = await office.snapshot.read()
        status = await office.memo.get(
            "status-only", lambda: read_status(office.store, office.config, picture.backlog)
        )
    except (OutgateError, trio.TooSlowError):
        return await metrics.render()
    return await metrics.render(picture.backlog, status)
