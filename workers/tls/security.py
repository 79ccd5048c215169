"""What one worker process has for TLS, beside its sessions: policies of receivers, and reports to them."""

import logging
import os
import time

import trio

from relay.config import Config
from relay.events import EventLog, encode_event
from relay.net.resolver import Resolver
from relay.store.queue import Store
from relay.store.stscache import StsCache
from relay.store.tlsrpt import Sessions
from workers.prohibited import Prohibited
from workers.tls.fetch import make_context
from workers.tls.posting import Courier
from workers.tls.report import Reporter
from workers.tls.sts import StsPolicies
from workers.tls.tally import Tally

_log = logging.getLogger("outgate.worker")


class Security:
    """``policies`` and ``tally`` are None where the configuration does without."""

    def __init__(self, config: Config, store: Store, resolver: Resolver, events: EventLog) -> None:
        """Raises StartError for files that cannot be used."""
        self._nursery: trio.Nursery | None = None
        self._events = events
        prohibited = Prohibited(config.delivery.prohibited_hosts)

        def is_allowed(address: str) -> bool:
            return not prohibited.covers_address(address)

        self.policies: StsPolicies | None = None
        if config.tls.mta_sts:
            self.policies = StsPolicies(
                config,
                resolver,
                StsCache(store.link),
                is_allowed=is_allowed,
                spawn=self._spawn,
                report=self._tell,
            )
        self.tally: Tally | None = None
        self._reporter: Reporter | None = None
        if config.tls_reports.send:
            self.tally = Tally(Sessions(store.link), resolver)
            context = make_context(config.delivery.ca_file)
            courier = Courier(resolver, context=context, is_allowed=is_allowed)
            self._reporter = Reporter(
                config, store, courier, resolver, events, worker=os.urandom(5).hex()
            )

    async def run(self) -> None:
        """Refresh policies, put away what was counted, send reports; until cancelled."""
        async with trio.open_nursery() as self._nursery:
            try:
                if self.tally is not None and self._reporter is not None:
                    self._nursery.start_soon(self.tally.run)
                    self._nursery.start_soon(self._reporter.run)
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def _spawn(self, *role: object) -> None:
        # Before the start and at the end nothing is refreshed: the next one who looks does it.
        if self._nursery is not None:
            self._nursery.start_soon(*role)  # type: ignore[arg-type]

    def _tell(self, domain: str, reason: str) -> None:
        """RFC 8461 §3.3: somebody should look at it before the old policy ends."""
        event = {
            "time": time.time(),
            "event": "policy-not-refreshed",
            "domain": domain,
            "text": reason,
        }
        self._events.write(encode_event(event))
        _log.warning(
            "%s: its MTA-STS policy is not refreshed, the old one holds: %s", domain, reason
        )
