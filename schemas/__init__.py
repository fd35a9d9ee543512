"""The contract as code: commands, events and the API's bodies; it imports nothing of the worker."""
