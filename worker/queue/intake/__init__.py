"""Intake: from the stream and the inbox into the ledger."""
