"""Who may ask, what for, and how much."""
