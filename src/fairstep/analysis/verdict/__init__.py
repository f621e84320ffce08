"""From trials to verdicts: faster, slower or not separable, with the evidence beside it and the words for it.

Everything that judges or compares contestants belongs here. Fits of curves are in ``laws``, checks of the papers'
claims in ``claims``.
"""
