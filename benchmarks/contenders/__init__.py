"""One file for each contender: its producer, its worker, and the settings it is best with."""
