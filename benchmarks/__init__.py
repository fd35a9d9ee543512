"""Measures trainmaster beside the queues that one could use instead: `python3 dev.py bench`.

Everything is real: worker processes, a Redis with an append-only file, and a stub of the API that
answers after a fixed time. Workers have one core, Redis and the stub another.
"""
