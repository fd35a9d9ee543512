"""Creations that happen exactly once, at an API that takes no key for that."""
