"""Runs as they are seen from outside: their metrics, their state, a list of them, their curves."""
