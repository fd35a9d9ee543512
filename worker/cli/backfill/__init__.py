"""`trainmaster backfill`: predictions on all items of a source."""
