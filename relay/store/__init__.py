"""The queue in Redis: what is written where, and the only code that talks to it. See DESIGN.md.

keys.py        every key             scripts.py, scripts/   one Lua script per transition
queue.py       the transitions       view.py                looking without changing
link.py        the connection        durability.py          does it keep what it acknowledged?
embedded.py    a server of our own   binary.py, ping.py     finding one, asking whether it is there
"""
