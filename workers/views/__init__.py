"""What people and programs see of a running system: read off the store, as plain values."""
