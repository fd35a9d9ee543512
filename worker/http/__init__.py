"""What every HTTP connection of a worker needs, whoever it leads to."""
