"""outgate's delivery pool, and on top of everything the command line (workers.cli).

A worker process serves one or more sources (local addresses). It claims deliveries from the
store, routes them, sends them over kept sessions, and ends each claim in one of three ways:
settle, defer or bounce.
"""
