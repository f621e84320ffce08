"""A contest carried out: what it is, the trials that it wants, its ledgers and certificates. It starts no process."""
