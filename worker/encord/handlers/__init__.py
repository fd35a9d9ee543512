"""Handlers: one per command type, from a command to API calls to an outcome."""
