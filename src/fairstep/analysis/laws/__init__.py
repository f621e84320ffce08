"""Laws of losses and hyperparameters: fitted power laws, the baseline's curve, and trends of speedups.

Fits of numbers belong here, and nothing that knows a contestant, a run or a verdict.
"""
