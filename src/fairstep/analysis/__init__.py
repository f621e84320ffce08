"""Trials in, verdicts out: statistics, speedups in tokens, verdicts and the words for them.

``trials`` has the rows of a contest, ``laws`` the fits, ``verdict`` the judgement, ``claims`` the checks of both
papers' claims. Pure functions on tables and arrays belong here. Nothing here trains, chooses a next run, draws, prints
or writes a file. May import fairstep.runs and fairstep.published; never torch.
"""

from fairstep.analysis.claims.wen_tables import published_speedups
from fairstep.analysis.laws.baseline_curve import BaselineCurve, curve_line
from fairstep.analysis.laws.law import Law, Noise, hyperparameter_law, joint_law, loss_law, offset_law
from fairstep.analysis.laws.trend import Trend, ratio_trend, size_trend
from fairstep.analysis.statistics import (
    LEVEL,
    AnalysisError,
    Estimate,
    mean_interval,
    paired_difference,
    pooled_deviation,
)
from fairstep.analysis.trials import Trials
from fairstep.analysis.verdict.crossings import Crossing, crossings, mean_curve
from fairstep.analysis.verdict.judge import Outcome, Verdict, verdicts
from fairstep.analysis.verdict.law_speedup import LawSpeedup, law_speedup, speedup_rows
from fairstep.analysis.verdict.paired import Comparison, compare, deviation_interval
from fairstep.analysis.verdict.ranking import Ranked, rank, ranking
from fairstep.analysis.verdict.result import contest_result
from fairstep.analysis.verdict.speedup import Speedup, token_speedup
from fairstep.analysis.verdict.wording import (
    COLUMNS,
    bytes_text,
    claims_text,
    count_text,
    headline,
    known_columns,
    plural,
    seconds_text,
    speedup_text,
    verdict_rows,
)

__all__ = [
    "COLUMNS",
    "LEVEL",
    "AnalysisError",
    "BaselineCurve",
    "Comparison",
    "Crossing",
    "Estimate",
    "Law",
    "LawSpeedup",
    "Noise",
    "Outcome",
    "Ranked",
    "Speedup",
    "Trend",
    "Trials",
    "Verdict",
    "bytes_text",
    "claims_text",
    "compare",
    "contest_result",
    "count_text",
    "crossings",
    "curve_line",
    "deviation_interval",
    "headline",
    "hyperparameter_law",
    "joint_law",
    "known_columns",
    "law_speedup",
    "loss_law",
    "mean_curve",
    "mean_interval",
    "offset_law",
    "paired_difference",
    "plural",
    "pooled_deviation",
    "published_speedups",
    "rank",
    "ranking",
    "ratio_trend",
    "seconds_text",
    "size_trend",
    "speedup_rows",
    "speedup_text",
    "token_speedup",
    "verdict_rows",
    "verdicts",
]
