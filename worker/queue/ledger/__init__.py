"""The ledger: one row in Redis for every command, and the due sets that drive them."""
