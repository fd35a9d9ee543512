"""What a backfill reads: formats, where they lie, and what their rows mean."""
