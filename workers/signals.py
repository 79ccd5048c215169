"""Signals: complaints and late bounces that came back to us, taken to whom they are about: the source,
and the tenant.

All workers look for them; each is one worker's. What is taken and not reported yet is lost with its
process: a few seconds' evidence.
"""

import logging

import trio

from relay.errors import StoreError, StoreUnavailable
from relay.store.feedback import Complaint, Signal, take_signals
from relay.store.link import Link
from workers.reporter import Reporter
from workers.share import TenantShares

_EVERY = 5.0  # s
_MOST = 1000  # at a time

_log = logging.getLogger("outgate.worker")


async def take_in_signals(link: Link, reporter: Reporter, shares: TenantShares) -> None:
    """Take signals in as they come, until cancelled."""
    while True:
        await trio.sleep(_EVERY)
        try:
            signals = await take_signals(link, _MOST)
        except (StoreUnavailable, StoreError) as error:
            _log.warning("%s; trying again", error)
            continue
        for signal in signals:
            if signal.tenant and _is_about_list(signal):
                shares.note_signal(signal.tenant, complaint=isinstance(signal, Complaint))
            if signal.site and signal.source:
                is_complaint = isinstance(signal, Complaint)
                reporter.note_signal(
                    signal.site, signal.source, signal.tenant, complaint=is_complaint
                )


def _is_about_list(signal: Signal) -> bool:
    """Tell whether it speaks against whom the tenant writes to: a full mailbox does not."""
    return isinstance(signal, Complaint) or signal.status in ("5.1.1", "5.1.10")
