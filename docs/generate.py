"""What the reference says of the code, asked of the code: help texts, fields, optimizers, presets, JSON keys.

``write`` makes fragments in ``docs/_generated/``, which the pages of ``docs/reference/`` include, and one page for each
optimizer. It asks public front doors and the command line itself. ``restructure`` makes our docstrings, which are plain
text, safe for autodoc.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import io
import json
import os
import pkgutil
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from unittest.mock import patch

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typing_extensions import TypeAliasType

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
    parts = [_block(said("--help"))]
    for verb, actions in verbs().items():
        parts += [f"## fairstep {verb}", _block(said(verb, "--help"))]
        for action in actions:
            parts += [f"### fairstep {verb} {action}", _block(said(verb, action, "--help"))]
    return "\n\n".join(parts)


# Tables of fields.


def fields(kind: type[BaseModel]) -> str:
    """A table for a model and for every model that its fields hold, with type, default and meaning."""
    parts = []
    for model in _models(kind):
        meanings = descriptions(model)
        rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
        for name, field in model.model_fields.items():
            cells = (f"`{name}`", _type(field.annotation), _default(field), _escape(meanings.get(name, "")))
            rows.append(f"| {' | '.join(cells if meanings else cells[:3])} |")
        if not meanings:
            rows[:2] = ["| key | type | default |", "|---|---|---|"]
        parts += [f"## {model.__name__}", markdown(inspect.getdoc(model) or ""), "\n".join(rows)]
    return "\n\n".join(parts)


def descriptions(kind: type) -> dict[str, str]:
    """What is said under each field of a class: pydantic's descriptions, else the strings in the source."""
    said_there: dict[str, str] = {}
    for base in kind.__bases__:
        if base.__module__.startswith("fairstep."):
            said_there |= descriptions(base)
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    for field, text in zip(body.body, body.body[1:], strict=False):
        is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
            said_there[field.target.id] = str(text.value.value)  # type: ignore[attr-defined]
    given = {name: field.description for name, field in getattr(kind, "model_fields", {}).items()}
    return said_there | {name: text for name, text in given.items() if text}


def _models(kind: type[BaseModel], seen: list[type[BaseModel]] | None = None) -> list[type[BaseModel]]:
    """The model and its fields' models, each once, in the order of the fields."""
    seen = [] if seen is None else seen
    if kind not in seen:
        seen.append(kind)
        for field in kind.model_fields.values():
            for part in _parts(field.annotation):
                if isinstance(part, type) and issubclass(part, BaseModel):
                    _models(part, seen)
    return seen


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for argument in get_args(annotation):
        yield from _parts(argument)


NAMES: dict[Any, str] = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "none"}


def _type(annotation: Any) -> str:
    """A type in the words of a file: number, text, list of numbers ..."""
    if isinstance(annotation, TypeAliasType):
        annotation = annotation.__value__
    kind, parts = get_origin(annotation), get_args(annotation)
    if kind is Annotated:
        return _type(parts[0])
    if kind is Literal:
        return " or ".join(str(part) for part in parts)
    if kind in (Union, UnionType):
        return " or ".join(dict.fromkeys(_type(part) for part in parts))
    if kind in (list, tuple):
        return f"list of ({_type(parts[0])})"
    if kind in (dict, Mapping):
        return f"table of ({_type(parts[1])})"
    return NAMES.get(annotation) or getattr(annotation, "__name__", str(annotation))


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or isinstance(value, BaseModel):
        return "its defaults"
    return _cell(json.dumps(value) if not isinstance(value, tuple) else json.dumps(list(value)))


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
        rows.append(f"| [{spec.name}](optimizers/{spec.name}.md) | {' | '.join(map(_escape, cells))} |")
    entries = "\n".join(f"optimizers/{name}" for name in optim.specs())
    return "\n".join(rows) + f"\n\n```{{toctree}}\n:hidden:\n\n{entries}\n```"


def optimizer_page(spec: optim.OptimizerSpec) -> str:
    o, i = SHAPE
    parts = [
        f"# {spec.title}",
        f"`{spec.name}`" + (f", also called {', '.join(f'`{name}`' for name in spec.aliases)}" if spec.aliases else ""),
        f"Class: `fairstep.optim.{spec.class_name}`. Reference: {_escape(spec.reference)}",
        markdown(spec.text),
        "## Hyperparameters",
        "\n".join(
            [
                "| name | default | domain | meaning | source of the default |",
                "|---|---|---|---|---|",
                *(
                    f"| `{name}` | {_plain(known.default)} | {_escape(_domain(known.domain))} "
                    f"| {_escape(known.description)} | {_escape(known.source)} |"
                    for name, known in spec.hyperparameters.items()
                ),
            ]
        ),
        "## Learning rate, schedule and decay",
        f"* Unit of the learning rate: {_escape(spec.lr_unit)}.",
        *(
            f"* Grid of `{name}` for models that a CPU trains: {', '.join(map(_plain, grid.values))} "
            f"({_escape(grid.source)})."
            for name, grid in spec.search_space.items()
        ),
        f"* Own schedule (`--schedule own`): {spec.schedule.kind}, warm-up {spec.schedule.warmup_fraction:.0%} "
        f"({_escape(spec.schedule.source)}).",
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
                    f"| {', '.join(part.roles)} | {part.rule.name} | {_escape(part.rule.state_formula)} "
                    f"| {_escape(part.rule.flops_formula)} |"
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
        rows.append(f"| {_escape(tuning.source)} | {_escape(values)} |")
    return "\n".join(rows)


def wrapper_table() -> str:
    rows = ["| wrapper | other names | what it does | adds | reference |", "|---|---|---|---|---|"]
    for wrapper in wrappers().values():
        adds = ", ".join(f"`{name}`" for name in getattr(wrapper, "hyperparameters", {}))
        other = ", ".join(f"`+{name}`" for name in getattr(wrapper, "aliases", ()))
        rows.append(
            f"| `+{wrapper.name}` | {other} | {_escape(wrapper.title)} | {adds} | {_escape(wrapper.reference)} |"
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
    rows = [f"| `{key}` | {kind} | {_cell(example)} |" for key, (kind, example) in keys_of(value).items()]
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


# Docstrings, which are plain text with ``code``, lists and indented equations.


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """("words", paragraph) and ("lines", an indented block as it is), in order."""
    lines: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if not line.strip():
            if lines and lines[-1][0] == "lines":
                lines[-1][1].append("")
            else:
                lines.append(("gap", []))
            continue
        kind = (
            "lines" if line.startswith(("    ", "\t", ">>>", "... ")) or re.match(r"^\w+/\S*\s{3,}", line) else "words"
        )
        if lines and lines[-1][0] == kind and not (kind == "words" and line.startswith(("* ", "- "))):
            lines[-1][1].append(line)
        else:
            lines.append((kind, [line]))
    for kind, body in lines:
        if kind == "lines":
            yield kind, textwrap.dedent("\n".join(body)).strip("\n")
        elif kind == "words":
            yield kind, " ".join(line.strip() for line in body)


def markdown(text: str) -> str:
    """A docstring as Markdown."""
    parts = []
    for kind, body in blocks(text):
        if kind == "lines":
            parts.append(_block(body))
        else:
            parts.append(_escape(body))
    return "\n\n".join(parts)


def restructure(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """For autodoc: the same docstring as reStructuredText that cannot be misread."""
    text: list[str] = []
    for kind, body in blocks("\n".join(lines)):
        if kind == "lines":
            text += ["::", "", *textwrap.indent(body, "    ").splitlines(), ""]
        else:
            bullet = "* " if body.startswith(("* ", "- ")) else ""
            pieces = re.split(r"(``.+?``)", body.removeprefix("* ").removeprefix("- "))
            safe = "".join(p if n % 2 else re.sub(r"([\\*_|`])", r"\\\1", p) for n, p in enumerate(pieces))
            text += [bullet + safe, ""]
    lines[:] = text


def _escape(text: str) -> str:
    """Words for a Markdown page or cell: code stays code, an address becomes a link, nothing else is markup."""
    bullet = "* " if text.startswith("* ") else ""
    safe = ""
    for piece in re.split(r"(``.+?``|`[^`]+`|https?://[^\s,)]*[^\s,).;])", " ".join(text.removeprefix("* ").split())):
        if piece.startswith("`"):
            safe += "`" + piece.strip("`").replace("|", "or") + "`"
        elif piece.startswith("http"):
            safe += f"<{piece}>"
        else:
            safe += re.sub(r"([\\*_$|~\[\]#`<{}])", r"\\\1", piece)
    return bullet + safe


def _cell(text: str) -> str:
    """Code in a cell."""
    return f"`{text.replace('|', 'or')}`" if text else ""


def _block(text: str, language: str = "text") -> str:
    return f"```{language}\n{text}\n```"


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
