"""Mathematics that several rules use: Newton-Schulz iteration, matrices in blocks, and counted update steps."""
