"""What operators do to a running system: each act is recorded, with who and why."""
