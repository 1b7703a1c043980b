"""Training runs from outside: folder, state, record, list, curves, lock."""
