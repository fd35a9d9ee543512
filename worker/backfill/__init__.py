"""Backfills: predictions on all items of a source, read no further ahead than a window allows."""
