"""The durable queue: what accepts, claims, runs and ends commands, whatever they are about."""
