"""Fixtures: a browser, a gateway with mail in it, and an admin service on an empty store."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.kit import browser as browsers
from tests.kit import sink
from tests.kit.browser import Browser
from tests.kit.desk import Desk, ask
from tests.kit.gateway import Gateway
from tests.kit.inbox import Inbox
from tests.kit.letters import connect, make_letter, send
from tests.kit.ports import find_free_port
from tests.kit.redis import Server, open_server
from tests.kit.sink import Sink

# What somebody may write who would like to be more than text.
HOSTILE = '<img src=x onerror="window.pwned=1">'
GOOD, LATER, GONE = 30, 5, 3


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    if (obstacle := browsers.find_obstacle()) is not None:
        pytest.skip(obstacle)
    with Browser() as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """A browser; nothing may go wrong in its pages that nobody has seen."""
    yield chromium
    assert chromium.read_problems() == []
    chromium.chrome.get("about:blank")  # who looks at nothing asks nothing


@dataclass(frozen=True)
class House:
    """A gateway with some mail: delivered, put off by a host that writes HTML, bounced."""

    gateway: Gateway
    url: str
    waiting: list[str]  # ids
    bounced: list[str]

    def post(self, domain: str, count: int = 1) -> list[str]:
        """Send messages; return their ids."""
        return _post(self.gateway, domain, count)


@pytest.fixture(scope="package")
def house() -> Iterator[House]:
    if (obstacle := sink.find_obstacle()) is not None:
        pytest.skip(obstacle)
    port = find_free_port()
    url = f"http://127.0.0.1:{port}/"
    later = Sink("-r", "rcpt", "-b", f"450 4.2.0 {HOSTILE} come back later")
    gone = Sink("-f", "rcpt", "-B", "550 5.1.1 nobody of that name")
    with Inbox() as good, later, gone:
        routes = {"good.test": good.port, "later.test": later.port, "gone.test": gone.port}
        with Gateway(
            routes | {"acme.example": good.port},  # notices go there
            delivery='processes = 1\nretry = ["1h"]',
            admin=f'listen = ["127.0.0.1:{port}"]',
            tables="".join(f'[[site]]\nname = "{d}"\ndomains = ["{d}"]\n' for d in routes),
        ) as gateway:
            wait_until_heard(gateway, url)
            later_ids = _post(gateway, "later.test", LATER)
            gone_ids = _post(gateway, "gone.test", GONE)
            _post(gateway, "good.test", GOOD)
            wait_for_rest(gateway, queued=LATER)
            yield House(gateway, url, later_ids, gone_ids)


def wait_until_heard(gateway: Gateway, url: str, *, seconds: float = 30) -> None:
    """Wait until the admin service hears of what happens: messages from before are not in its index."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):  # it does not listen yet
            if ask(url, "messages?domain=good.test")["messages"]:
                return
            _post(gateway, "good.test", 1)
        time.sleep(0.5)
    raise AssertionError("the admin service hears nothing")


def _post(gateway: Gateway, domain: str, count: int) -> list[str]:
    head = b"Message-ID: <%b@acme.example>\r\n" % HOSTILE.encode()
    with connect(gateway.port) as session:
        return [
            send(session, make_letter(f"{domain}-{number}", head=head), f"r{number}@{domain}").id
            for number in range(count)
        ]


def wait_for_rest(gateway: Gateway, *, queued: int, seconds: float = 30) -> None:
    """Wait until everything has been tried, and so many wait for another time."""
    deadline = time.monotonic() + seconds
    while (ledger := gateway.read_ledger()).queued != queued:
        assert time.monotonic() < deadline, ledger
        time.sleep(0.2)


@pytest.fixture(scope="package")
def cellar() -> Iterator[Server]:
    """A store of its own, empty, that may go away."""
    with open_server() as server:
        yield server


@pytest.fixture(scope="package")
def desk(cellar: Server) -> Iterator[Desk]:
    """An admin service where nothing has happened yet."""
    with Desk(cellar.url) as desk:
        yield desk
