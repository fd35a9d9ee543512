"""Traces by OpenTelemetry: what is told to a listener, as spans.

Off unless the usual variables name an exporter; nothing of OpenTelemetry is imported until then.

Each span hangs on one that is certain to reach the backend, whatever is killed: on the producer's
own, or on one that the same process has handed to the exporter before. So

- a command whose producer names no span gets one, `create`. Its ids and times are made of what the
  ledger knows of the command, so that it is the same from whichever process it comes, and each
  process that has runs of the command hands it out once;
- what a run did, its requests above all, is handed out with the run, at the run's end. Of a run
  that was killed there is nothing.

Source: the semantic conventions for messaging and for HTTP, version 1.44.
"""
