"""The page of the documentation, its tables and its pictures."""
