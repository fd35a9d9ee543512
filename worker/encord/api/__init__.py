"""The client of the ML-models API: one method per operation over one transport."""
