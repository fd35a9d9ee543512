"""The run: claims what is due, carries it out on one loop, settles it."""
