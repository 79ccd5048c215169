"""Whether a sender's domain takes mail at all: who publishes a null MX can get no notice back.

RFC 7505 §4.2 lets us refuse such a sender, and it is better off with that: its mistake shows at
once, and not when the first notice is lost.

Asked are only domains of tenants, so what is remembered is as bounded as the configuration. A
domain is asked about when its first message comes, which waits a moment for the answer; after
that the answer is kept fresh in the background, and costs a message nothing. The DNS is never a
reason to refuse or to lose a message: no answer means that there is no null MX.
"""

import trio

from relay.net.resolver import NameNotFound, NameUnavailable, Resolver

PATIENCE = 2.0  # seconds that the first message of a domain waits
REFRESH = 300.0  # seconds between two questions about the same domain


class ReturnPaths:
    """Knows of each domain that has sent whether it has a null MX. One for each process."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._null: dict[str, bool] = {}

    async def is_null(self, domain: str) -> bool:
        """Tell whether the domain (in A-labels) says that it accepts no mail."""
        known = self._null.get(domain)
        return await self._ask(domain) if known is None else known

    async def run(self) -> None:
        """Keep what is known fresh, until cancelled."""
        while True:
            await trio.sleep(REFRESH)
            for domain in list(self._null):
                await self._ask(domain)

    async def _ask(self, domain: str) -> bool:
        """Ask the DNS; without an answer, what was known before holds."""
        null = self._null.get(domain, False)
        with trio.move_on_after(PATIENCE):
            try:
                found = await self._resolver.find_mx(domain)
                # RFC 7505 §3: one record, whose host is the root.
                null = [mx.name for mx in found.records] == [""]
            except NameNotFound:
                null = False
            except NameUnavailable:
                pass
        self._null[domain] = null
        return null
