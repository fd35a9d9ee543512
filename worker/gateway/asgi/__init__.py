"""What stands between a connection and the routes."""
