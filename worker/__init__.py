"""The queue worker: intake, ledger, handlers, API client, tasks and command line."""
