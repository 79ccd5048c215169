"""What must hold whatever octets arrive: a target for each reader of what others have written.

A target is a module with ``check(octets)``, which raises when its invariant does not hold, and SEEDS,
inputs to begin with. ``make fuzz`` lets atheris look for inputs that lead elsewhere in the code, as
long as one has patience; ``test_targets.py`` runs the same checks on seeds and on Hypothesis' input
with every other test, so that no target is left behind. What was found is among the SEEDS since.
"""

TARGETS = (
    "session", "client", "proxyheader", "mime", "archives", "rewrite", "dkim", "patterns",
    "configuration", "settings", "archive", "audit", "feedback", "spf", "replies", "replay",
)  # fmt: skip
