"""How fast, for how much CPU, and in how much memory: outgate beside Postfix, on this machine.

``python -m tests.bench`` (``make bench``); results worth keeping go to RESULTS.md.
"""
