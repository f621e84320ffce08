"""Published runs by name: semenov/124m/soap, wen/130m/muon. All 48 scripts of S, and the best configuration of each of
W's 150 cells.

A preset is a paper's model, optimizer, schedule, batch and budget, as the tuning (``optim``) and the model (``model``)
record them. ``variant`` says whether S's paper or its released code is followed where they differ. ``remarks`` lists
what a rerun does not repeat because no setting of ours expresses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from fairstep import model, optim
from fairstep.model.shapes import chinchilla_tokens
from fairstep.optim.spec.tunings import Paper, Tuning, all_tunings
from fairstep.runs import DataSpec, EvaluationSpec, Execution, OptimizerChoice, RunSpec, ScheduleSpec, Value

Variant = Literal["code", "paper"]

PAPERS: dict[str, Paper] = {"semenov": "S", "wen": "W"}
_MODELS = {"moe": "moe-520m"}
"""Model preset -> the scale's name in the tunings, where they differ."""

_VALIDATION_TOKENS = 10_000_000
"""S: 0.01 % of about 100 billion tokens, evaluated whole at the end."""


@dataclass(frozen=True)
class RunPreset:
    """``evaluation_tokens``: of the evaluations on the way; ``final_tokens``: of the last one (at most the corpus has).
    ``tokens``: the published length. ``remarks``: what a rerun of ours does not repeat."""

    name: str
    source: str
    model: model.Preset
    optimizer: str
    hyperparameters: dict[str, Value]
    undecayed: tuple[str, ...] | None
    schedule: ScheduleSpec
    batch_sequences: int
    tokens: int
    clip_norm: float
    evaluate_every_steps: int
    evaluation_tokens: int
    final_tokens: int
    remarks: tuple[str, ...] = ()

    def spec(
        self,
        data: DataSpec,
        *,
        tokens: int = 0,
        hyperparameters: dict[str, Value] | None = None,
        seed: int = 0,
        precision: Literal["float32", "bf16"] = "bf16",
        batch_sequences: int = 0,
        validation_tokens: int = 0,
        execution: Execution | None = None,
    ) -> RunSpec:
        """The run on a text. What is given replaces the published value; ``validation_tokens`` is all that there are.

        Raises pydantic.ValidationError (a ValueError) for impossible combinations.
        """
        sequences = batch_sequences or self.batch_sequences
        batch = sequences * self.model.context
        tokens = tokens or self.tokens
        most = (validation_tokens or self.final_tokens) // self.model.context * self.model.context
        chosen = self.hyperparameters | (hyperparameters or {})
        known = optim.get(self.optimizer)
        chosen |= dict.fromkeys(known.run_lengths, 0)  # the run's length, whatever the paper's was (AdEMAMix)
        return RunSpec(
            model=self.model.config(data.vocabulary),
            data=data,
            optimizer=OptimizerChoice(
                name=self.optimizer,
                hyperparameters=known.of_run(chosen, steps=tokens // batch, precision=precision),
                undecayed=self.undecayed,
            ),
            schedule=self.schedule,
            evaluation=EvaluationSpec(
                every_steps=self.evaluate_every_steps,
                tokens=max(self.model.context, min(self.evaluation_tokens, most)),
                final_tokens=max(self.model.context, min(self.final_tokens, most)),
            ),
            batch_sequences=sequences,
            tokens=tokens,
            clip_norm=self.clip_norm,
            precision=precision,
            init_seed=seed,
            data_seed=seed,
            execution=execution or Execution(),
        )


def is_run_preset(name: str) -> bool:
    """Whether a name means a run (paper/model/optimizer) and not a model."""
    paper, *rest = name.split("/")
    return paper in PAPERS and len(rest) == 2


def run_preset(name: str, chinchilla: float = 1, variant: Variant = "code") -> RunPreset:
    """The preset of paper/model/optimizer; the optimizer under any of its names.

    ``chinchilla``: lengths; rounded, it is one of W's cells (1, 2, 4, 8, 16). S has one configuration for all
    lengths, of its longest run.
    Raises ValueError that names what there is.
    """
    paper, scale, optimizer = name.split("/") if is_run_preset(name) else ("", "", "")
    if not paper:
        raise ValueError(f"a run preset is paper/model/optimizer, such as semenov/124m/soap, not {name!r}")
    if not 0 < chinchilla < 1000:
        raise ValueError(f"chinchilla must be a positive number below 1000 for {name}, not {chinchilla:g}")
    chinchilla = round(chinchilla) or 1
    size = model.preset(f"{paper}/{scale}")
    ours = optim.get(optimizer).name
    there = {
        t.optimizer: t
        for t in all_tunings()
        if t.paper == PAPERS[paper] and t.scale == _MODELS.get(scale, scale) and t.chosen and _is_of(t, chinchilla)
    }
    if ours not in there:
        at = f" at {chinchilla}x Chinchilla" if paper == "wen" else ""
        raise ValueError(
            f"{paper} published no run of {ours} with {scale}{at}; there are {', '.join(sorted(there)) or 'none'}"
        )
    return (_semenov if paper == "semenov" else _wen)(f"{paper}/{scale}/{ours}", size, there[ours], variant)


def names() -> list[str]:
    """Every run preset."""
    paper_of = {short: name for name, short in PAPERS.items()}
    scale_of = {scale: name for name, scale in _MODELS.items()}
    presets = {f"{paper_of[t.paper]}/{scale_of.get(t.scale, t.scale)}/{t.optimizer}" for t in all_tunings() if t.chosen}
    return sorted(presets)


def _is_of(tuning: Tuning, chinchilla: int) -> bool:
    return tuning.paper == "S" or round(tuning.tokens / chinchilla_tokens(tuning.parameters_matrix)) == chinchilla


def _complete(tuning: Tuning, changes: dict[str, Any] | None = None) -> dict[str, Value]:
    return dict(optim.get(tuning.optimizer).validate({**tuning.chosen, **(changes or {})}))


def _wen(name: str, size: model.Preset, tuning: Tuning, variant: Variant) -> RunPreset:
    """W: warm-up from 0, cosine to 0; Muon and Scion constant, then linear to 0. One record, so no variants."""
    run = tuning.run
    remarks = ["the loss published is that on Paloma's C4-en, in nats per token of the Llama-3 tokenizer"]
    clip = float(run.get("clip_norm", 0.0))
    if tuning.optimizer in ("muon", "scion"):
        remarks.append("W clips the gradients of its Adam or sign part by their own norm; here the norm is of all")
    if tuning.optimizer == "muon":
        remarks.append("the number of Newton-Schulz steps of the published runs is not known: 5 (here) or 10")
    if tuning.optimizer == "soap":
        remarks.append(
            "W turns its bases by the factors before this gradient, and its corrections count the first call"
        )
    if tuning.optimizer in ("cautious-adamw", "kron"):
        remarks.append("W takes means and norms over the 32 layers at once; here they are of each matrix")
    schedule = ScheduleSpec(
        kind=run["schedule"],  # type: ignore[arg-type]
        warmup_steps=int(run.get("warmup_steps", 0)),
        final_fraction=float(run.get("final_fraction", 0.0)),
        decay_fraction=float(run.get("decay_fraction", 0.2)),
        decay_shape="linear" if run["schedule"] == "wsd" else "1-sqrt",
        positions="from_start",
    )
    return RunPreset(
        name=name,
        source=tuning.source,
        model=size,
        optimizer=tuning.optimizer,
        hyperparameters=_complete(tuning),
        undecayed=None,
        schedule=schedule,
        batch_sequences=int(run["batch_tokens"]) // size.context,
        tokens=tuning.tokens,
        clip_norm=0.0 if tuning.optimizer in ("adam-mini", "sophia-h") else clip,
        evaluate_every_steps=1000,
        evaluation_tokens=_VALIDATION_TOKENS,
        final_tokens=_VALIDATION_TOKENS,
        remarks=tuple(remarks),
    )


def _curvature_of_code(tuning: Tuning) -> float:
    """The curvature of S's code on one GPU over the paper's: 245,760 g^2 of one micro-batch, over its accumulation."""
    sequences = int(tuning.run["batch_tokens"]) // 512
    micro = 62 if tuning.scale == "720m" else 32
    return 245_760 / (micro * 512 * (sequences / micro) ** 2)


def _semenov(name: str, size: model.Preset, tuning: Tuning, variant: Variant) -> RunPreset:
    """S: cosine from 0.01 over the peak to 0.01; the warm-up is half a cosine in the code, and linear in the paper;
    the code evaluates 64 micro-batches of 64 sequences on the way, the paper says 32."""
    run, optimizer = tuning.run, tuning.optimizer
    changes: dict[str, Any] = {}
    remarks = []
    undecayed: tuple[str, ...] | None = None
    if optimizer == "muon":  # only its AdamW part is decayed: embedding and norm gains
        changes["weight_decay"] = tuning.other["weight_decay_of_adamw_part"]
        undecayed = ("matrix", "expert", "router")
    if optimizer == "mars-adamw":
        undecayed = ("embedding",)
    if variant == "paper":
        if optimizer == "ademamix" and tuning.scale == "124m":
            changes["beta3"] = 0.9999
        if optimizer == "signum":
            changes |= {"momentum": 0.95, "nesterov": True}
    if optimizer in ("soap", "mars-adamw") and variant == "paper":
        remarks.append("the paper says that AdamW takes the embedding and the head; here, as in the code, it does not")
    if optimizer == "sophia-g" and variant == "code":
        changes["rho"] = float(f"{float(tuning.chosen['rho']) * _curvature_of_code(tuning):.6g}")
        remarks.append(
            "the code scales the curvature of a loss divided by the accumulated micro-batches by a constant 245,760 "
            f"tokens; here it is scaled by the batch, and rho is {changes['rho']:g} instead of "
            f"{tuning.chosen['rho']:g}, which is the same in expectation"
        )
    if optimizer in ("muon", "d-muon"):
        remarks.append("the code's AdamW adds eps before it corrects the bias; here it is added afterwards")
    if optimizer == "signum" and variant == "code":
        remarks.append("the code starts the momentum at the weights; here, as in the paper, at zero")
    shapes: dict[str, Any] = {"warmup_start": 0.01, "positions": "closed"}
    shapes["warmup_shape"] = "half-cosine" if variant == "code" else "linear"
    if optimizer == "schedule-free-adamw":  # the warm-up is its own: (k + 1) / W
        shapes = {}
    schedule = ScheduleSpec(
        kind=run["schedule"],  # type: ignore[arg-type]
        warmup_steps=int(run["warmup_steps"]),
        final_fraction=float(run["final_fraction"]) if run["schedule"] != "constant" else 0.0,
        **shapes,
    )
    return RunPreset(
        name=name,
        source=tuning.source,
        model=size,
        optimizer=optimizer,
        hyperparameters=_complete(tuning, changes),
        undecayed=undecayed,
        schedule=schedule,
        batch_sequences=int(run["batch_tokens"]) // size.context,
        tokens=tuning.tokens,
        clip_norm=float(run["clip_norm"]),
        evaluate_every_steps=200 if tuning.scale == "720m" else 115,
        evaluation_tokens=(64 if variant == "code" else 32) * 64 * 512,
        final_tokens=_VALIDATION_TOKENS,
        remarks=tuple(remarks),
    )
