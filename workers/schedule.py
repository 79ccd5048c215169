"""When a deferred delivery is tried again, and when it has waited long enough. Pure arithmetic."""

from collections.abc import Sequence

# Deliveries deferred together (a site went down with thousands waiting) must not all come back
# in the same second.
SPREAD = 0.1
# A host's "now" is not at once: what it was busy with takes longer than our way back.
LEAST_HINT = 1.0
# Hosts that ask for a day (and those whose text was misread) are looked at sooner: within the five
# days that a message usually has, this leaves enough attempts. The default schedule ends here too.
MOST_HINT = 4 * 3600.0
# Who says "in 5 minutes" a fourth time is no greylist but in trouble, and says it to everybody: from
# then on a hint may lengthen a wait, and not shorten it.
TRUSTED_HINTS = 3


def next_wait(
    retry: Sequence[float], attempts: int, chance: float, hint: float | None = None
) -> float:
    """Return the seconds from now to the next attempt.

    ``retry`` holds the configured waits; the last one repeats. ``attempts`` counts the ended
    attempts, the one just made included, so it is 1 or more. ``chance`` in 0..1 spreads the wait
    by up to a tenth either way. ``hint``: the seconds that the host asked for; it takes the
    place of the schedule, within bounds.
    """
    wait = retry[min(max(attempts, 1), len(retry)) - 1]
    scheduled = wait * (1 - SPREAD + 2 * SPREAD * chance)
    if hint is None:
        return scheduled
    # Spread upwards only: some greylists begin anew for whoever comes too early.
    hinted = min(MOST_HINT, max(LEAST_HINT, hint) * (1 + SPREAD * chance))
    return hinted if attempts <= TRUSTED_HINTS else max(hinted, scheduled)


def is_expired(accepted: float, now: float, expire: float) -> bool:
    """Tell whether a message accepted at ``accepted`` has had its ``expire`` seconds."""
    return now - accepted >= expire
