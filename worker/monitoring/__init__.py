"""What tells from outside whether a worker is well: health, and metrics for Prometheus."""
