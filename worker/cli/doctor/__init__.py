"""`trainmaster doctor`: one file for each thing that it checks."""
