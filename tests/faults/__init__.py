"""Breaks everything on purpose and counts what was lost, done twice or wrong."""
