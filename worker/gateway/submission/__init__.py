"""Commands on their way from a request into their stream."""
