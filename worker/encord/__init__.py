"""Encord's ML-models API: its client, and a handler for each type of command about it."""
