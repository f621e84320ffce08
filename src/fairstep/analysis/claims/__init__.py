"""The claims of three papers and of modded-nanogpt's optimization track, checked against published numbers and against
the contests of a store.

Each file has one subject. A claim is a statement in our words with the check that decides it (``claim.py``); evidence
is the losses that a check reads (``evidence.py``).
"""

from fairstep.analysis.claims.claim import Claim, Finding
from fairstep.analysis.claims.evaluate import claim_rows, claims, evaluate

__all__ = ["Claim", "Finding", "claim_rows", "claims", "evaluate"]
