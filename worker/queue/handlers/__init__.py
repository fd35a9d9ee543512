"""Commands about commands."""
