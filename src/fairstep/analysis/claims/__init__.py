"""The claims of both papers, checked against published numbers and against runs of your own.

One file for each subject; a claim is a check with the statement it decides (``claim.py``), in our own words.
"""

from fairstep.analysis.claims.claim import Claim, Finding
from fairstep.analysis.claims.evaluate import claim_rows, claims, evaluate

__all__ = ["Claim", "Finding", "claim_rows", "claims", "evaluate"]
