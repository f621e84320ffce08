"""Claims of S (arXiv 2509.01440) about single methods. Most of them rest on figures that were not read off."""

from __future__ import annotations

from collections.abc import Sequence

from fairstep.analysis.claims.claim import Finding, Part, below, claim, every, found_in, missing, swept
from fairstep.analysis.claims.evidence import SOPHIA, Evidence
from fairstep.analysis.claims.semenov_rankings import LEVEL, get
from fairstep.analysis.claims.settings_on_stores import adopts_eps, ahead_of_wsd, clipping, more_steps_are_level
from fairstep.analysis.claims.settings_on_stores import prodigy as of_prodigy

NOT_PRINTED = "losses of this ablation: the paper shows them in a figure that was not read off, or in words only"


@claim(
    "F5",
    "Sophia diverges in long small-batch runs and in a 33.6B-token run, and trains to the end on the MoE model.",
    "124M, 32x512 after 128k steps; 256x512 at step 129,720; MoE 336k steps",
    "Figs 31, 32; takeaway 16",
)
def sophia_diverges(evidence: Evidence) -> Finding:
    if evidence.from_store:
        found = [(c, name) for c in evidence.cells for name in SOPHIA if name in c.losses]
        diverged = [Part("yes" if c.losses[name].diverged else "no", f"{name} at {c.label}") for c, name in found]
        return every(diverged) if diverged else missing("a contest with Sophia")
    moe = get(evidence, "moe520m_b256_336k").losses.get("sophia")
    parts = [
        Part("yes" if moe and not moe.diverged else "no", f"MoE, 336k steps: ends at {moe.value if moe else 0:.3f}")
    ]
    parts += [Part("missing", f"the diverged run at {where}: left out of the panel") for where in ("32x512", "33.6B")]
    return every(parts)


@claim(
    "F13",
    "With small batches AdamW under cosine beats SF-AdamW, which can beat AdamW under WSD.",
    "124M, OpenWebText2, 32x512",
    "Fig. 25",
)
def schedule_free(evidence: Evidence) -> Finding:
    if evidence.from_store:
        parts = [below(c, "adamw", "sf-adamw") for c in evidence.cells if "sf-adamw" in c.losses]
        return every([*parts, *ahead_of_wsd(evidence)]) if parts else missing("a contest with SF-AdamW")
    return missing(NOT_PRINTED)


@claim("F21", "SF-AdamW needs clipping.", "124M, 256x512, 16.8B tokens", "Fig. 33; takeaway 17")
def schedule_free_clipping(evidence: Evidence) -> Finding:
    what = "SF-AdamW with and without clipping"
    return found_in(evidence, clipping(evidence), what) if evidence.from_store else missing(NOT_PRINTED)


@claim("F22", "The best betas of SF-AdamW are (0.9, 0.9999).", "124M", "Fig. 36; takeaway 18")
def schedule_free_betas(evidence: Evidence) -> Finding:
    return _swept_or_missing(evidence, ("sf-adamw",), "beta2", 0.9999, 0.99)


@claim(
    "F23",
    "Prodigy diverges with beta2 0.9999 unless bias-corrected, and finds a rate near the best one of AdamW.",
    "124M, 32x512",
    "Figs 35, 40; takeaways 18, 21, 22",
)
def prodigy(evidence: Evidence) -> Finding:
    what = "Prodigy with two beta2, and its effective learning rate"
    return found_in(evidence, of_prodigy(evidence), what) if evidence.from_store else missing(NOT_PRINTED)


@claim("F24", "ADOPT depends on beta2 and on eps above 1e-6.", "124M; 210M", "Figs 34, 41; takeaway 18")
def adopt(evidence: Evidence) -> Finding:
    return _swept_or_missing(evidence, ("adopt",), "beta2", 0.999, 0.5, adopts_eps(evidence))


@claim("F25", "Newton-Schulz with 5, 10 or 20 steps is equal, with 1 much worse.", "Muon, 124M, 2.1B", "Fig. 37")
def newton_schulz(evidence: Evidence) -> Finding:
    return _swept_or_missing(evidence, ("muon",), "ns_steps", 5, 1, more_steps_are_level(evidence, LEVEL))


@claim(
    "F8",
    "More decay hurts Muon and MARS, where it reaches only a part of the weights, even in short runs of Muon.",
    "124M, weight decay 0.5 against 0.1",
    "Fig. 23",
)
def decay_of_parts(evidence: Evidence) -> Finding:
    return _swept_or_missing(evidence, ("muon", "mars"), "weight_decay", 0.1, 0.5)


def _swept_or_missing(
    evidence: Evidence, names: tuple[str, ...], hyper: str, better: float, worse: float, more: Sequence[Part] = ()
) -> Finding:
    """On a store, wherever both values were tried, with ``more`` of the claim; S's numbers were not printed."""
    if not evidence.from_store:
        return missing(NOT_PRINTED)
    parts = [
        swept(cell, name, hyper, better, worse)
        for cell in evidence.cells
        for name in names
        if {better, worse} <= cell.sweeps.get((name, hyper), {}).keys()
    ]
    return every([*parts, *more]) if parts else missing(f"{' or '.join(names)} with {hyper} {better:g} and {worse:g}")
