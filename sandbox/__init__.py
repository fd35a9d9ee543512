"""A local stand-in for the ML-models API: the same wire contract, small nets on real pixels.

It imports `schemas` and nothing of the worker; `python -m sandbox` starts it.
"""
