"""What breaks, and what must hold meanwhile; `python -m tests.faults` runs them all."""
