"""The events as a stream of server-sent events, for any number of watchers."""
