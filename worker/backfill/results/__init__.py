"""What a backfill leaves: parts, and the last files that are made of them."""
