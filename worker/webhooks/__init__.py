"""Webhooks in: a delivery is verified, kept, and turned into commands by rules."""
