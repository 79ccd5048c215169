"""The queue in Redis: what is written where, and the only code that talks to it."""
