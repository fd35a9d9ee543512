"""The real console script as a process, end to end."""
