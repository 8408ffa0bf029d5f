"""Helpers that tests and the processes that they start have in common."""
