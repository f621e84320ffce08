"""What the columns of a table mean, by the names that people give them.

A meaning has tiers of names. The first tier that a table has decides, and two columns of one tier are asked about.
Names are compared without case, and ``/``, ``.``, ``-`` and spaces count as ``_``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fairstep.imported.source import FILE, ROW, InputError, listed, near_or_all

TIERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "contestant": (
        ("contestant",),
        ("optimizer", "optim", "optimiser", "opt", "optimizer_name", "optim_name", "optimizer_type"),
        ("method", "algorithm", "algo"),
        ("group", "run_group"),
        ("name",),
        ("run_name", "display_name", "label"),
    ),
    "loss": (
        ("final_val_loss", "final_loss", "final_validation_loss", "final_eval_loss", "val_loss_final"),
        ("val_loss", "valid_loss", "validation_loss", "eval_loss", "loss_val", "val_nll", "eval_val_loss", "dev_loss"),
        ("test_loss",),
        ("loss", "nll", "cross_entropy"),
    ),
    "seed": (("seed", "random_seed", "rng_seed", "run_seed"), ("init_seed", "model_seed"), ("data_seed",)),
    "step": (
        ("step", "steps", "global_step", "last_step", "final_step", "train_step", "num_steps"),
        ("trainer_global_step", "train_global_step"),
        ("_step",),
        ("iteration", "iterations", "iter", "iters", "update", "updates", "train_steps"),
    ),
    "tokens": (
        ("tokens", "tokens_seen", "num_tokens", "train_tokens", "total_tokens", "consumed_tokens", "tokens_trained"),
        ("num_input_tokens_seen", "budget_tokens", "tokens_processed"),
    ),
    "batch_tokens": (("batch_tokens", "tokens_per_step", "tokens_per_batch", "batch_size_tokens"),),
    "planned": (("planned_steps", "total_steps", "max_steps", "num_iterations", "scheduled_steps"),),
    "run": (("run", "run_id", "id", "uuid", "trial", "trial_id"), ("run_name", "name")),
    "status": (("status", "state"),),
}

WORKLOAD = (
    *("model", "model_name", "model_size", "n_params", "num_params", "params", "parameters", "n_layer", "n_layers"),
    *("num_layers", "d_model", "hidden_size", "n_embd", "dataset", "data", "corpus", "dataset_name", "tokenizer"),
    *(
        "per_device_train_batch_size",
        "train_batch_size",
        "vocab_size",
        "batch_size",
        "global_batch_size",
        "batch_tokens",
        "batch_sequences",
        "tokens_per_step",
    ),
    *("seq_len", "sequence_length", "context", "context_length", "block_size", "precision", "dtype"),
)
"""What runs must share to be compared, where a table says it."""

HYPERPARAMETERS = (
    *("lr", "learning_rate", "peak_lr", "max_lr", "base_lr", "weight_decay", "wd", "decay", "betas", "momentum", "mu"),
    *("eps", "epsilon", "warmup", "schedule", "scheduler", "lr_scheduler_type", "lr_schedule", "clip", "grad_clip"),
    *("max_grad_norm", "clip_norm", "gamma", "alpha", "rho", "nesterov", "ns_steps", "dropout", "precond_freq"),
    *("precondition_frequency", "shampoo_beta", "trust_ratio", "cooldown_frac", "decay_fraction", "final_fraction"),
)
HIGHER_IS_BETTER = ("acc", "accuracy", "top1", "top5", "f1", "bleu", "auc", "score", "reward")
OTHER_UNITS = {"ppl": "a perplexity", "perplexity": "a perplexity", "bpb": "bits per byte", "bpc": "bits per character"}
"""Words in the name of a column that is no loss in nats per token."""
RATES = ("lr", "learning_rate", "peak_lr", "max_lr", "base_lr")
HYPERPARAMETER = re.compile(r"(^|_)(lr|wd|betas?\d?|beta_\d|b1|b2|momentum|eps|weight_decay|warmup)(_|$)")
PREFIX = re.compile(r"^(config|hparams|hyperparameters|hp|args|optim(izer)?)_(?=[a-z])")


@dataclass(frozen=True)
class Asked:
    """The columns that a user names; empty: found by their names. ``contestant`` may be several, whose values are
    joined. ``hyperparameters``: None, found by their names."""

    loss: str = ""
    contestant: tuple[str, ...] = ()
    seed: str = ""
    step: str = ""
    tokens: str = ""
    hyperparameters: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Columns:
    """Meaning -> column. ``contestant``: columns whose values together name a contestant; empty: the file does."""

    roles: Mapping[str, str]
    contestant: tuple[str, ...]
    hyperparameters: tuple[str, ...]
    workload: tuple[str, ...]
    unused: tuple[str, ...]

    def get(self, role: str) -> str | None:
        return self.roles.get(role)

    def tuned(self) -> dict[str, str]:
        """Column -> the hyperparameter's name: without a tracker's prefix, and lr for the learning rate."""
        names: dict[str, str] = {}
        for column in self.hyperparameters:
            short = _short(plain(column))
            name = "lr" if short in RATES else short
            names[column] = name if name not in names.values() else column
        return names


def plain(name: str) -> str:
    return re.sub(r"[\s/.\-:]+", "_", name.strip()).lower()


def columns_of(names: Sequence[str], asked: Asked, where: str) -> Columns:
    """The meanings of a table's columns. ``where``: the table, in words. Raises InputError."""
    names = [name for name in names if name not in (FILE, ROW)]
    known = {name: plain(name) for name in names}
    roles: dict[str, str] = {}
    for role in TIERS:
        given = getattr(asked, role, "") if role != "contestant" else ""
        if given:
            roles[role] = named(given, names, role, where)
        elif role != "contestant" and (found := _found(role, known, where, taken=set(roles.values()))):
            roles[role] = found
    if "loss" not in roles:
        raise InputError(
            f"{where} has no column for the loss (val_loss, eval_loss, final_loss ...); name it with --loss; the "
            f"columns are {listed(names)}"
        )
    words = plain(roles["loss"]).split("_")
    if "loss" not in words and (wrong := [word for word in words if word in HIGHER_IS_BETTER]):
        raise InputError(
            f"{where}: {roles['loss']} is no loss, because a higher {wrong[0]} is better; name a column with a loss in "
            "nats per token with --loss"
        )
    if asked.contestant:
        special = ("step", "tokens", "file", "folder")
        contestant = tuple(
            name if name in special and name not in names else named(name, names, "contestant", where)
            for name in asked.contestant
        )
    else:
        one = _found("contestant", known, where, taken={roles["loss"]})
        contestant = (one,) if one else ()
    if roles.get("run") in contestant:
        roles.pop("run")
    taken = {*roles.values(), *contestant}
    if asked.hyperparameters is not None:
        tuned = tuple(named(name, names, "hyperparameters", where) for name in asked.hyperparameters)
    else:
        tuned = tuple(name for name in names if name not in taken and _is_hyperparameter(known[name]))
    taken |= set(tuned)
    free = {*names} - taken | {roles.get("batch_tokens", "")}
    workload = tuple(name for name in names if name in free and _short(known[name]) in WORKLOAD)
    unused = tuple(name for name in names if name not in taken | set(workload))
    return Columns(roles, contestant, tuned, workload, unused)


def unit_note(loss: str) -> str:
    """That a column is of another unit, in a sentence; empty where its name does not say so."""
    unit = next((OTHER_UNITS[word] for word in plain(loss).split("_") if word in OTHER_UNITS), "")
    told = "its logarithm is nats per token" if unit == "a perplexity" else "read nats as these bits"
    return unit and f"{loss} is {unit} by its name, and is printed as nats per token; {told}."


def _is_hyperparameter(name: str) -> bool:
    short = _short(name)
    measured = re.match(r"(train|eval|val|perf|grad|system|time)_", name)
    return not measured and (short in HYPERPARAMETERS or HYPERPARAMETER.search(short) is not None)


def _short(name: str) -> str:
    """Without the prefix that a tracker sets before the values of a config."""
    return PREFIX.sub("", name)


def _found(role: str, known: Mapping[str, str], where: str, taken: set[str]) -> str | None:
    for tier in TIERS[role]:
        hits = [name for name, short in known.items() if name not in taken and tier.count(short)]
        hits = hits or [name for name, short in known.items() if name not in taken and tier.count(_short(short))]
        if len(hits) > 1 and role in ("loss", "contestant", "seed", "step", "tokens"):
            raise InputError(f"{where}: {' and '.join(hits)} could each be the {role}; name one with --{role}")
        if hits:
            return hits[0]
    return None


def named(given: str, names: Sequence[str], role: str, where: str) -> str:
    """A column that a user names: exactly, or but for case. Raises InputError."""
    if given in names:
        return given
    alike = [name for name in names if plain(name) == plain(given)]
    if len(alike) == 1:
        return alike[0]
    hint = near_or_all(given, names, "columns")
    raise InputError(f"{where} has no column {given!r} for --{role.replace('_', '-')}; {hint}")
