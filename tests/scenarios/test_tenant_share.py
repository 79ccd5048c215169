"""One tenant writes to people who do not exist: it is slowed, then held, and the others are unharmed.

Both send from the same sources, which is why it matters. Its mail waits, and goes on when an operator
has forgiven it.
"""

import time
from collections.abc import Iterator

import pytest
import trio

from tests.kit.console import Console, wait_until
from tests.kit.gateway import Gateway
from tests.kit.letters import connect, make_letter, send
from tests.kit.peer import ScriptedHost, open_host
from tests.kit.shelf import Shelf

pytestmark = pytest.mark.heavy

# The sources' own standing at such a host is another matter, and would rest them there, too.
TABLES = """\
[[tenant]]
name = "globex"
domains = ["globex.example"]
networks = ["127.0.0.0/8"]
[reputation]
floor = 0
[reputation.tenant]
at_least = 20
slow_unknown = 0.3
hold_unknown = 0.6
slow_to = "4/s"
"""
NOBODY = "RCPT 550 5.1.1 <x@nobody.test>: Recipient address rejected: User unknown"


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with Shelf() as shelf:
        yield shelf


class Story:
    """What happens, in a thread beside the host that knows nobody."""

    def __init__(self, gateway: Gateway, host: ScriptedHost, shelf: Shelf) -> None:
        self.gateway = gateway
        self.console = Console(gateway)
        self.host = host
        self.shelf = shelf
        self.sent = 0
        self.last = ""

    def post(self, tenant: str, domain: str, count: int) -> set[str]:
        """Hand in messages; return their marks."""
        marks = set()
        with connect(self.gateway.port) as session:
            for _ in range(count):
                self.sent += 1
                mark = f"{tenant}-{self.sent}"
                people, sender = f"u{self.sent}@{domain}", f"s@{tenant}.example"
                self.last = send(session, make_letter(mark), people, sender=sender).id
                marks.add(mark)
        return marks

    def has_arrived(self, marks: set[str]) -> bool:
        return marks <= self.shelf.messages.keys()

    def run(self) -> None:
        self.be_slowed()
        self.be_held()
        self.wait_while_others_go_on()
        self.be_forgiven()

    def be_slowed(self) -> None:
        self.post("acme", "y.test", 12)
        self.post("acme", "nobody.test", 8)
        (event,) = self.console.wait_for_events("tenant-slowed")
        assert event["tenant"] == "acme"
        assert event["reason"] == "unknown users 40 % of 20 in 1d: slowed at 30 %"

    def be_held(self) -> None:
        self.post("acme", "nobody.test", 60)
        begun = time.monotonic()
        others = self.post("globex", "y.test", 60)
        wait_until(lambda: self.has_arrived(others), "the other tenant's mail", seconds=5)
        (event,) = self.console.wait_for_events("tenant-held")
        # Ten more had to be refused, at four in a second.
        assert time.monotonic() - begun > 1.5
        assert event["reason"].endswith(": held at 60 %")
        share = self.console.ask("status")["tenants"]["acme"]
        assert share["state"] == "hold"
        assert 30 <= share["tried"] < 60
        assert share["tried"] - share["unknown"] == 12

    def wait_while_others_go_on(self) -> None:
        wait_until(lambda: self.gateway.read_ledger().queued > 0, "that it waits")
        time.sleep(0.5)  # what was under way
        before, ledger = self.host.counts["RCPT"], self.gateway.read_ledger()
        mine, others = self.post("acme", "y.test", 3), self.post("globex", "y.test", 30)
        wait_until(lambda: self.has_arrived(others), "the other tenant's mail", seconds=5)
        time.sleep(1)
        assert not any(mark in self.shelf.messages for mark in mine)
        assert self.host.counts["RCPT"] == before
        assert self.gateway.read_ledger().bounced == ledger.bounced
        assert self.console.ask("status")["tenants"]["globex"]["state"] == ""
        self.post("acme", "y.test", 1)
        said = self.console.call("explain", self.last).out
        assert "its tenant is held: unknown users " in said

    def be_forgiven(self) -> None:
        self.host.script.clear()  # whoever they are now
        bounced = self.gateway.read_ledger().bounced
        assert self.console.call("resume", "--tenant", "acme").status == 0
        ledger = self.gateway.wait_ledger(self.sent)
        assert ledger.is_closed
        assert (ledger.accepted, ledger.bounced) == (self.sent, bounced)
        events = self.console.read_events("tenant-slowed", "tenant-held", "tenant-released")
        assert [event["event"] for event in events] == [
            "tenant-slowed", "tenant-held", "tenant-released",
        ]  # fmt: skip
        assert self.console.read_events("deferred") == []


async def test_who_burns_the_pool_is_held_and_nobody_else(shelf: Shelf) -> None:
    async with open_host(NOBODY) as host:
        routes = {"nobody.test": host.port, "y.test": shelf.port, "acme.example": shelf.port}

        def tell() -> None:
            with Gateway(routes, tables=TABLES, delivery="processes = 2") as gateway:
                Story(gateway, host, shelf).run()

        await trio.to_thread.run_sync(tell)
