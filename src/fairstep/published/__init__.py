"""Published numbers of two papers and a public track as tables: facts, with their source, unit and uncertainty.

``wen``: Wen, Hall, Ma, Liang, *Fantastic Pretraining Optimizers and Where to Find Them* (arXiv 2509.02046), from the
result records of its public experiment code. ``semenov``: Semenov, Pagliardini, Jaggi, *Benchmarking Optimizers for LLM
Pretraining* (arXiv 2509.01440), mostly read off its figures, and its run scripts. ``track3``: the optimization track of
modded-nanogpt, from its table and logs.

Only facts belong here: nothing fitted, compared or judged (that is analysis/), and nothing of our own runs.
"""

from fairstep.published import semenov, track3, wen

__all__ = ["semenov", "track3", "wen"]
