"""Counters whose labels could be many: the most active are told apart, the rest is "other".

Which are the most active changes, and a counter must never fall: Prometheus takes that for a restart, and
adds all of it once more. So who is named is shown with all that was ever counted of it, and who is not
is added to "other" as it comes, which begins with nothing in each process.
"""

from collections.abc import Iterable, Mapping

from relay.counters import OTHER

Labels = tuple[str, ...]

_FADES = 0.99  # of what was counted before, with each look: at a look in 15 s, half of it in 17 min


class Top:
    """One label of one or more counters."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._activity: dict[str, float] = {}
        self._names: frozenset[str] = frozenset()
        self._last: dict[tuple[str, Labels], int] = {}
        self._others: dict[tuple[str, Labels], int] = {}

    @property
    def names(self) -> list[str]:
        """Who is named now, the most active first."""
        return sorted(self._names, key=lambda name: (-self._activity[name], name))

    def choose(self, counter: str, counted: Mapping[Labels, int], place: int) -> None:
        """See what a counter says now, and choose by it whom to name; ``place``: of the label."""
        activity = {name: value * _FADES for name, value in self._activity.items()}
        for labels, value in counted.items():
            name = labels[place]
            if name != OTHER:
                grown = _find_growth(value, self._last.get((counter, labels), 0))
                activity[name] = activity.get(name, 0.0) + grown
        # Who is named stays so as long as nobody is clearly more active: else two that are equal would
        # change places with each look.
        ranked = sorted(
            activity, key=lambda name: (-activity[name] * (2 if name in self._names else 1), name)
        )
        self._names = frozenset(ranked[: self._most])
        self._activity = {name: activity[name] for name in ranked[: 20 * self._most]}

    def show(
        self, counter: str, counted: Mapping[Labels, int], place: int
    ) -> Iterable[tuple[Labels, int]]:
        """Return what to show of a counter; to be called with each look, after ``choose``."""
        shown: dict[Labels, int] = {}
        for labels, value in counted.items():
            key = (counter, labels)
            if labels[place] in self._names:
                shown[labels] = value
            else:
                folded = (counter, (*labels[:place], OTHER, *labels[place + 1 :]))
                # Of what was there before we looked first nobody asks for the growth.
                grown = _find_growth(value, self._last.get(key, value))
                self._others[folded] = self._others.get(folded, 0) + grown
            self._last[key] = value
        for (name, labels), value in self._others.items():
            if name == counter:
                shown[labels] = value
        return shown.items()


def _find_growth(value: int, before: int) -> int:
    """Return what was added; where a store was emptied, all of it."""
    return value - before if value >= before else value
