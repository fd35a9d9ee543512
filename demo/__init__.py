"""Scores predictions against known truth, and shows both side by side."""
