"""The composition root: the one place that builds everything from the settings.

What a room of the worker needs is built in the module of the same name: `queue`, `encord`,
`backfill`, `monitoring`. `handlers` names the handlers of all commands and what these share,
`components` ties all together on the supervisor's loop, and with `supervisor` a worker begins.
"""
