"""Who runs the trials: processes of this machine, a Ray cluster, a batch system. A launcher decides nothing."""
