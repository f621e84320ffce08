"""What the reference says of the code, asked of the code: help texts, fields, optimizers, presets, JSON keys.

``write`` makes fragments in ``docs/_generated/``, which the pages of ``docs/reference/`` include, and one page for each
optimizer. It asks public front doors and the command line itself.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import json
import os
import pkgutil
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

from docstrings import code_block, code_cell, escaped, markdown
from field_tables import fields

from fairstep import optim
from fairstep.cli import main
from fairstep.model import PRESETS
from fairstep.model.shapes import counts, flops_per_token
from fairstep.optim.wrappers import wrappers
from fairstep.runs import Certificate, CommandSpec, Ledger, RunSpec, Store, Summary

HELP_WIDTH = "100"
SHAPE = (1024, 1024)
"""The matrix for which the cost of an optimizer is given as numbers."""


def write(docs: Path) -> None:
    """All fragments and pages, under the folder of the documentation."""
    fragments = docs / "_generated"
    pages = docs / "reference" / "optimizers"
    for folder in (fragments, pages):
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*.md"):
            old.unlink()
    for name, text in {
        "cli": cli(),
        "study-file": fields(_class("fairstep.study", "StudyTable")),
        "command-study-file": fields(_class("fairstep.study", "CommandStudyTable")),
        "run-spec": fields(RunSpec),
        "command-spec": fields(CommandSpec),
        "optimizers": optimizer_table(),
        "wrappers": wrapper_table(),
        "presets": preset_table(),
        "json": json_keys(docs / "reference" / "json"),
        "summary": fields(Summary),
        "ledger": fields(Ledger),
        "certificate": fields(Certificate),
        "columns": columns(),
    }.items():
        (fragments / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    for spec in optim.specs().values():
        (pages / f"{spec.name}.md").write_text(optimizer_page(spec), encoding="utf-8")


# The command line.


@functools.cache
def said(*arguments: str) -> str:
    """What ``fairstep`` with these arguments prints on standard output."""
    text = io.StringIO()
    quiet = contextlib.redirect_stdout(text), contextlib.redirect_stderr(io.StringIO())
    with patch.dict(os.environ, COLUMNS=HELP_WIDTH), quiet[0], quiet[1], contextlib.suppress(SystemExit):
        main(list(arguments))
    return text.getvalue().rstrip()


def listed(text: str) -> list[str]:
    """The verbs that a help text lists: lines of two spaces, a word, and what it does."""
    body = text.partition("\nexample")[0]
    return re.findall(r"^  ([a-z]+) +\S", body, re.MULTILINE)


def verbs() -> dict[str, list[str]]:
    """Every verb with its actions, as the help texts list them."""
    return {verb: listed(said(verb, "--help")) for verb in listed(said("--help"))}


def cli() -> str:
    """Every help text."""
    parts = [code_block(said("--help"))]
    for verb, actions in verbs().items():
        parts += [f"## fairstep {verb}", code_block(said(verb, "--help"))]
        for action in actions:
            parts += [f"### fairstep {verb} {action}", code_block(said(verb, action, "--help"))]
    return "\n\n".join(parts)


def columns() -> str:
    """The columns of ``Store.table``."""
    schema = Store(Path("/no/store")).table().schema
    return "\n".join(["| column | type |", "|---|---|", *(f"| `{name}` | {kind} |" for name, kind in schema.items())])


# Optimizers, wrappers, presets.


def optimizer_table() -> str:
    rows = ["| name | other names | unit of the learning rate | state | FLOPs |", "|---|---|---|---|---|"]
    for spec in optim.specs().values():
        rule = spec.part("matrix").rule
        cells = (", ".join(spec.aliases), spec.lr_unit, rule.state_formula, rule.flops_formula)
        rows.append(f"| [{spec.name}](optimizers/{spec.name}.md) | {' | '.join(map(escaped, cells))} |")
    entries = "\n".join(f"optimizers/{name}" for name in optim.specs())
    return "\n".join(rows) + f"\n\n```{{toctree}}\n:hidden:\n\n{entries}\n```"


def optimizer_page(spec: optim.OptimizerSpec) -> str:
    o, i = SHAPE
    parts = [
        f"# {spec.title}",
        f"`{spec.name}`" + (f", also called {', '.join(f'`{name}`' for name in spec.aliases)}" if spec.aliases else ""),
        f"Class: `fairstep.optim.{spec.class_name}`. Reference: {escaped(spec.reference)}",
        markdown(spec.text),
        "## Hyperparameters",
        "\n".join(
            [
                "| name | default | domain | meaning | source of the default |",
                "|---|---|---|---|---|",
                *(
                    f"| `{name}` | {_plain(known.default)} | {escaped(_domain(known.domain))} "
                    f"| {escaped(known.description)} | {escaped(known.source)} |"
                    for name, known in spec.hyperparameters.items()
                ),
            ]
        ),
        "## Learning rate, schedule and decay",
        f"* Unit of the learning rate: {escaped(spec.lr_unit)}.",
        *(
            f"* Grid of `{name}` for models that a CPU trains: {', '.join(map(_plain, grid.values))} "
            f"({escaped(grid.source)})."
            for name, grid in spec.search_space.items()
        ),
        f"* Own schedule (`--schedule own`): {spec.schedule.kind}, warm-up {spec.schedule.warmup_fraction:.0%} "
        f"({escaped(spec.schedule.source)}).",
        f"* Weight decay: {spec.decay}.",
    ]
    if spec.signals:
        parts.append(f"* Signals beside the gradient: {', '.join(spec.signals)}.")
    parts += [
        "## Cost",
        "Of an o × i matrix. N is o i, k the shorter side, K the longer.",
        "\n".join(
            [
                "| roles | rule | state, floats | FLOPs of a step |",
                "|---|---|---|---|",
                *(
                    f"| {', '.join(part.roles)} | {part.rule.name} | {escaped(part.rule.state_formula)} "
                    f"| {escaped(part.rule.flops_formula)} |"
                    for part in spec.parts
                ),
            ]
        ),
        f"A hidden matrix of {o} × {i} has {spec.state_floats(o, i):,} floats of state and takes "
        f"{spec.flops(o, i):,.0f} FLOPs a step.",
    ]
    chosen = [tuning for tuning in spec.tunings if tuning.chosen]
    if chosen:
        parts += ["## Chosen by the papers", "S: arXiv 2509.01440, W: arXiv 2509.02046.", _tunings(spec, chosen)]
    return "\n\n".join(parts) + "\n"


def _tunings(spec: optim.OptimizerSpec, chosen: Iterable[optim.Tuning]) -> str:
    rows = ["| where | hyperparameters |", "|---|---|"]
    for tuning in chosen:
        named = [name for name in spec.hyperparameters if name in tuning.chosen]
        values = ", ".join(f"{name} {_plain(tuning.chosen[name])}" for name in named)
        rows.append(f"| {escaped(tuning.source)} | {escaped(values)} |")
    return "\n".join(rows)


def wrapper_table() -> str:
    rows = ["| wrapper | other names | what it does | adds | reference |", "|---|---|---|---|---|"]
    for wrapper in wrappers().values():
        adds = ", ".join(f"`{name}`" for name in getattr(wrapper, "hyperparameters", {}))
        other = ", ".join(f"`+{name}`" for name in getattr(wrapper, "aliases", ()))
        rows.append(
            f"| `+{wrapper.name}` | {other} | {escaped(wrapper.title)} | {adds} | {escaped(wrapper.reference)} |"
        )
    return "\n".join(rows)


def preset_table() -> str:
    rows = [
        "| preset | layers | width | heads | MLP | vocabulary | context | batch | parameters | of the blocks "
        "| FLOPs per token |",
        "|" + "---|" * 11,
    ]
    for name, preset in PRESETS.items():
        model, count = preset.model, counts(preset.model)
        active = f" ({count.active:,} active)" if count.active != count.total else ""
        numbers = (model.layers, model.width, model.heads, model.mlp_width, model.vocabulary, model.context)
        cells = [*map(str, numbers), str(preset.batch_sequences), f"{count.total:,}{active}", f"{count.matrix:,}"]
        rows.append(f"| `{name}` | {' | '.join(cells)} | {flops_per_token(model):,} |")
    return "\n".join(rows)


# Keys of --json.

ASKED = {
    "fairstep optimizers --json": "a list with a row for each optimizer",
    "fairstep optimizers show soap --json": "",
    "fairstep judge examples/muon-variants.csv --baseline muon --rule track3 --json": "",
    "fairstep published speedups --optimizer muon --json": "a list of rows; every table of `published` has its own",
    "fairstep published track3 --json": "a list with a row for each result of modded-nanogpt's track 3",
    "fairstep claims W3a F17 --json": "a list with a row for each claim",
    "fairstep recommend --params 350M --tokens 7B --batch-tokens 500k --json": "",
    "fairstep plan --model wen/130m/muon --device h100 --json": "",
    "fairstep model list --json": "a list with a row for each preset",
    "fairstep model check 27k --json": "",
    "fairstep study plan studies/demo.toml --device h100 --json": "",
}
"""Commands that cost nothing and are asked at every build. Others train; their answers are in ``reference/json``."""
OPEN = {"hyperparameters", "defaults", "search_space", "grids", "roles", "costs", "chosen", "space", "run", "tasks",
        "validation_losses", "other", "run_space", "other_space", "varied"}  # fmt: skip
"""Keys whose values are tables by name: hyperparameters, roles, tasks."""


def json_keys(recorded: Path) -> str:
    """The keys of every ``--json``, with the type of each value and an example."""
    parts = []
    for path in sorted(recorded.glob("*.json")):
        sample = json.loads(path.read_text(encoding="utf-8"))
        parts += [f"## {sample['command']}", _keys(sample["printed"])]
    here = Path.cwd()
    for command, note in ASKED.items():
        os.chdir(recorded.parents[2])
        try:
            answer = said(*command.split()[1:])
        finally:
            os.chdir(here)
        if not answer:
            continue
        parts += [f"## {command}", *([f"Prints {note}."] if note else []), _keys(json.loads(answer))]
    return "\n\n".join(parts)


def _keys(value: Any) -> str:
    rows = [f"| `{key}` | {kind} | {code_cell(example)} |" for key, (kind, example) in keys_of(value).items()]
    return "\n".join(["| key | type | example |", "|---|---|---|", *rows])


def keys_of(value: Any, prefix: str = "") -> dict[str, tuple[str, str]]:
    """Key -> (type, example), nested keys with dots, elements of lists as ``[]``."""
    if isinstance(value, Mapping) and value and prefix.rpartition(".")[2] not in OPEN:
        found: dict[str, tuple[str, str]] = {}
        for key, one in value.items():
            found |= keys_of(one, f"{prefix}.{key}" if prefix else str(key))
        return found
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        found = {}
        for one in value:
            for key, known in keys_of(one, prefix + "[]").items():
                if key not in found or found[key][0] == "null":
                    found[key] = known
        return found
    kinds = {dict: "table by name", list: "list", str: "text", bool: "true or false", type(None): "null"}
    kind = next((word for kind, word in kinds.items() if isinstance(value, kind)), "number")
    text = json.dumps(value, ensure_ascii=False)
    return {prefix or "(the answer)": (kind, text if len(text) <= 60 else text[:57] + "...")}


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def _domain(domain: Any) -> str:
    return " or ".join(map(str, domain)) if isinstance(domain, tuple) else domain or "true or false"


def _class(package: str, name: str) -> Any:
    """A class by its name, wherever it lies in a package."""
    root = importlib.import_module(package)
    if hasattr(root, name):
        return getattr(root, name)
    for module in pkgutil.walk_packages(root.__path__, f"{package}."):
        found = getattr(importlib.import_module(module.name), name, None)
        if found is not None:
            return found
    raise LookupError(f"{package} has no class {name}")
