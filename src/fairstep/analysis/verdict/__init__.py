"""From trials to verdicts: faster, slower or not separable, with the evidence beside it and the words for it.

Everything that judges or compares contestants belongs here. Fits of curves are in ``laws``, checks of the papers'
claims in ``claims``.
"""

from fairstep.analysis.verdict.judge import Outcome, Verdict, verdicts
from fairstep.analysis.verdict.result import contest_result

__all__ = ["Outcome", "Verdict", "contest_result", "verdicts"]
