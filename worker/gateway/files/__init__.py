"""Pictures and results as the gateway hands them out."""
