"""When a deferred delivery is tried again, and when it has waited long enough. Pure arithmetic."""

from collections.abc import Sequence

# Deliveries deferred together (a site went down with thousands waiting) must not all come back
# in the same second.
SPREAD = 0.1


def next_wait(retry: Sequence[float], attempts: int, chance: float) -> float:
    """Return the seconds from now to the next attempt.

    ``retry`` holds the configured waits; the last one repeats. ``attempts`` counts the ended
    attempts, the one just made included, so it is 1 or more. ``chance`` in 0..1 spreads the wait
    by up to a tenth either way.
    """
    wait = retry[min(max(attempts, 1), len(retry)) - 1]
    return wait * (1 - SPREAD + 2 * SPREAD * chance)


def is_expired(accepted: float, now: float, expire: float) -> bool:
    """Tell whether a message accepted at ``accepted`` has had its ``expire`` seconds."""
    return now - accepted >= expire
