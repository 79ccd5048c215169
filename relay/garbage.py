"""Python's collector of reference cycles, for a service that makes hardly any."""

import gc

# Net allocations that cause a collection of the youngest, and how many of those one of the older ones.
# Twenty sessions at work hold 800 young objects, so that the default, 700, has the collector look at
# all of them for each message or two: 3 % of the ingress' time, and nothing was found.
_THRESHOLDS = 10_000, 20, 20


def collect_rarely() -> None:
    """Call when all is imported, before serving: what is there by now is never looked at again.

    A full collection of that takes 60 to 120 ms, in which nobody is served.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
