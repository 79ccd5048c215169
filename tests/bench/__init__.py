"""How fast, for how much CPU, in how much memory, and whether queues, limits and shares hold.

``python -m tests.bench`` (``make bench``): outgate beside Postfix on this machine, and by itself
with a lot queued. Results worth keeping go to RESULTS.md.
"""
