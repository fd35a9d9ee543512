"""The file that names webhooks in and sinks out: its form, its rules, its secrets."""
