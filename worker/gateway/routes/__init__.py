"""The addresses of the gateway, one module for each kind of thing."""
