"""HTTP: commands in, events out, and what an operator asks and does. Needs the extra `gateway`."""
