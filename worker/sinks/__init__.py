"""Sinks out: events go to webhooks, to Redis and to brokers, at least once and in order."""
