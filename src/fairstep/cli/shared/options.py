"""Options that several verbs share, and what they become: a corpus, a workload, hyperparameters."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import itertools
import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin

import tyro
from pydantic import BaseModel, ValidationError

from fairstep import optim
from fairstep.cli.shared.help import help_text, options_of
from fairstep.cli.shared.shown import drawing
from fairstep.cli.shared.texts import corpus_of, text_of
from fairstep.cost.precision import auto_precision
from fairstep.model import AnyPreset, named
from fairstep.model.shapes import chinchilla_tokens
from fairstep.runs import DecayShape, Execution, ScheduleKind, Value, machine
from fairstep.study import Layout, Workload, layout
from fairstep.study.file.cells import Place, cells_of
from fairstep.study.file.schema import CellsTable, DataTable, token_count

Options = TypeVar("Options")
Table = TypeVar("Table", bound=BaseModel)

Assignments = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]

COURSE = ("schedule", "decay_fraction", "decay_shape", "warmup_fraction", "final_fraction", "clip_norm")
"""Options that a run's course follows, under the same names in a study."""


def parse(kind: type[Options], verb: str, arguments: list[str], default: Options | None = None) -> Options:
    """Read a verb's options from its dataclass, or print its help and exit. Raises ValueError for a value of another
    kind and for an option that there is not. ``default``: what holds for options that are not named, in place of the
    dataclass's own."""
    if {"-h", "--help"} & set(arguments):
        print(help_text(kind, verb), end="")
        raise SystemExit(0)
    if sentence := _twice(kind, arguments):
        raise ValueError(sentence)
    said = io.StringIO()
    try:
        with drawing(), contextlib.redirect_stderr(said):
            options = tyro.cli(kind, prog=f"fairstep {verb}", args=arguments, default=default or tyro.MISSING_NONPROP)
    except SystemExit:
        if sentence := _refusal(kind, said.getvalue(), arguments):
            raise ValueError(sentence) from None
        print(said.getvalue(), end="", file=sys.stderr)
        raise
    _check_whole(options)
    return options


def at_least(options: object, least: int, *names: str) -> None:
    """Raises ValueError for an option of these whose number is smaller, infinite or nan."""
    for name in names:
        if not least <= (value := getattr(options, name)) < math.inf:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")


def check_written(flag: str, path: Path | None, folder: bool = False) -> None:
    """Raises ValueError where no file can be made at the path, or with ``folder`` no folder: before anything is spent
    on what would be written there."""
    there = next((one for one in (path, *path.parents) if one.exists()), None) if path else None
    if there is None:
        return
    if there != path and not there.is_dir():
        raise ValueError(f"{flag} {path} lies below {there}, which is a file; name a path in a folder")
    if there == path and folder and not path.is_dir():
        raise ValueError(f"{flag} {path} is a file; name a folder")
    if there == path and not folder and path.is_dir():
        raise ValueError(f"{flag} {path} is a folder; name a file in it")


def _check_whole(options: Any) -> None:
    """Raises ValueError for a whole number of more than 64 bits, which neither a float nor a tensor's size can be."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            _check_whole(value)
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, int) and abs(one) >= 2**63:
                flag = f"--{field.name.replace('_', '-')}"
                raise ValueError(f"{flag} takes a whole number of at most 18 digits, not of {len(str(abs(one)))}")


def _twice(kind: type, arguments: list[str]) -> str:
    """What to say of an option that is given by two of its names, and of a list or a path that is given twice, of which
    the last alone would be read; else empty.

    Of words and numbers the last counts, as everywhere, so that what a script says can be changed at its end.
    """
    known = list(options_of(kind))
    options = {one.flag: one for one in known if one.once}
    words = itertools.takewhile(lambda word: word != "--", arguments)
    given = [word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")]
    for one in known:
        if len(names := list(dict.fromkeys(word for word in given if word in (one.flag, *one.aliases)))) > 1:
            return f"{' and '.join(names)} are names of the same option; give one of them"
    flag = next((flag for flag in options if given.count(flag) > 1), "")
    if not flag:
        return ""
    return f"{flag} is given twice; " + (f"name all values after one {flag}" if options[flag].many else "it takes one")


def _refusal(kind: type, said: str, arguments: list[str]) -> str:
    """What tyro says of the arguments, in a sentence: the option, what it takes and what it got. Empty if it is about
    something else."""
    options = {one.flag: one for one in options_of(kind)}
    plain = " ".join(re.sub("[╭╮╰╯│─]", " ", said).split())
    if unknown := re.search(r"Unrecognized options: (\S+)", plain):
        word = unknown[1].rstrip(",")
        near = difflib.get_close_matches(word.partition("=")[0], options, n=1)
        hint = f"did you mean {near[0]}?" if near else "--help lists what there is"
        return (
            f"there is no option {word}; {hint}" if word.startswith("-") else f"{word!r} is one word too many; {hint}"
        )
    positional = [one for one in options.values() if one.positional]
    if plain.startswith("Required options") and positional:
        return f"name the {positional[0].name}: {positional[0].words.partition('. ')[0].rstrip('.')}"
    named = re.findall(r"(?:Error parsing |argument ')(?:--)?(?:no-)?([\w-]+)", plain)
    option = next((options[f"--{name}"] for name in named if f"--{name}" in options), None)
    if option is None:
        return ""
    words = [word for argument in arguments for word in argument.split("=", 1 if argument.startswith("--") else 0)]
    place = words.index(option.flag) + 1 if option.flag in words else len(words)
    given = list(itertools.takewhile(lambda word: not re.match("--[a-z]", word), words[place:]))
    got = repr(" ".join(given if option.many else given[:1])) if given else "nothing"
    if get_origin(option.kind) is Literal:
        takes = f"{', '.join(map(str, get_args(option.kind)[:-1]))} or {get_args(option.kind)[-1]}"
        if option.positional and (choice := re.search("choice '(.*?)'", plain)):
            got = repr(choice[1])
        near = difflib.get_close_matches(got, list(map(str, get_args(option.kind))), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{option.name if option.positional else option.flag} takes {takes}, not {got}{hint}"
    one, several = {int: ("a whole number", "whole numbers"), float: ("a number", "numbers")}.get(
        option.kind, ("a value", "values")
    )
    example = "2 4" if option.kind is int else "0.5 2"
    many = option.many and not option.repeated
    takes = f"{several} with blanks between them, such as {option.flag} {example}" if many else one
    return f"{option.flag} takes {takes}, not {got}"


@dataclass(frozen=True)
class WorkloadOptions:
    """Which model is trained on which text, for how long, and how."""

    groups: ClassVar[Mapping[str, str]] = {
        "model": "model and text",
        "tokens": "length, batch and schedule",
        "evaluation_tokens": "evaluation and machine",
    }
    model: Annotated[str, tyro.conf.arg(aliases=["--preset"])] = "106k"
    """27k, 106k, 213k, 852k, 6.8M, 27M by matrix parameters, moe/328k, semenov/124m ... (docs/reference/presets.md); or
    anybody's: hf:config.json, hf:OWNER/NAME, model.py:build, package.module:build (docs/howto/my-model.md)."""
    context: int = 0
    """Tokens of a sequence. Default: the model's own; of a config at most 1024, of a function 128."""
    data: tuple[str, ...] = ()
    """Files or quoted globs (txt, md, jsonl, parquet; *.bin of nanoGPT and llm.c), a prepared corpus by name or folder,
    hf:OWNER/NAME, package:NAME==VERSION, or several with weights: a=3 b=1 (docs/howto/text.md). Default: Python's
    standard library."""
    vocabulary: int = 512
    """Tokens of the byte-level BPE that is trained on the text."""
    tokenizer: str = "bpe"
    """bpe (trained on the text), bytes, gpt2, a tokenizer file or the name of a prepared corpus."""
    validation: tuple[str, ...] = ()
    """Further validation sets, as NAME=SOURCE; the final loss of each is reported under its name."""
    epochs: float = 4.0
    """How often a run may read the text; a longer one is refused."""
    tokens: str = ""
    """Token budget of a run, for example 2M. Default: --chinchilla times 20 tokens per matrix parameter."""
    chinchilla: float | None = None
    """Token budget in Chinchilla lengths, used when --tokens is not given. Default: 1, or a published run's length."""
    batch_sequences: int = 0
    """Sequences per optimizer step. Default: the preset's."""
    schedule: ScheduleKind | Literal["own"] = "cosine"
    """Learning-rate schedule after the warm-up, the same for every contestant; own: each optimizer's own, with its
    warm-up and final fraction, as W compares them."""
    decay_fraction: float = 0.2
    """Last part of the run that decays, for --schedule wsd and inverse_sqrt."""
    decay_shape: DecayShape = "1-sqrt"
    """How it decays."""
    warmup_fraction: float = 0.05
    """Part of the run's steps that warms the learning rate up, linearly."""
    final_fraction: float = 0.0
    """Learning rate at the end, as a fraction of the peak."""
    clip_norm: float = 1.0
    """Largest global gradient norm; 0 does not clip."""
    evaluation_tokens: int = 131_072
    """Validation tokens of the final evaluation (all there are, if the text has fewer)."""
    precision: Literal["auto", "bf16", "float32"] = "auto"
    """auto: bf16 where the hardware multiplies it faster, else float32. Weights and optimizer state are float32."""
    micro_batch_sequences: int = 0
    """Sequences per forward pass (gradients are accumulated). Default: the whole batch at once."""
    threads: int = 0
    """Threads of one run. Default: 1 for the smallest models, else all cores."""
    compile: bool = True
    """Compile the model (needs a C++ compiler on a CPU; without one it runs uncompiled)."""


def prepared(options: WorkloadOptions) -> tuple[Workload, AnyPreset, Layout]:
    """Prepare the text and write the workload out. Raises ValueError (DataError for the text) with one sentence."""
    cells, data = cells_table(options), data_table(options)
    corpus = corpus_of(data)
    size = named(options.model, options.context)
    division = layout(machine(), size.parameters(corpus.vocabulary), threads=options.threads)
    assert isinstance(cells.tokens, int) and cells.precision != "auto"
    texts = {corpus.name: text_of(corpus, data, cells.tokens, size.context)}
    (cell,) = cells_of(cells, 0, texts, Place(execution(options, division), cells.precision))
    return cell.workload, size, division


def cells_table(options: WorkloadOptions) -> CellsTable:
    """The options as the ``[[cells]]`` table of a study, with every value written out. Raises ValueError."""
    size = named(options.model, options.context)
    if not (math.isfinite(options.epochs) and options.epochs > 0):
        raise ValueError(f"--epochs must be a positive number, not {options.epochs}")
    if not (0 <= options.warmup_fraction < 1):
        raise ValueError(f"--warmup-fraction must be in [0, 1), not {options.warmup_fraction}")
    at_least(options, 0, "context", "batch_sequences", "micro_batch_sequences", "clip_norm", "threads")
    at_least(options, 1, "evaluation_tokens")
    sequences = options.batch_sequences or size.batch_sequences
    batch_tokens = sequences * size.context
    wanted = budget_of(options.tokens, options.chinchilla, size) or chinchilla_budget(1.0, size)
    if wanted < batch_tokens:
        what = f"--tokens {options.tokens}" if options.tokens else f"--chinchilla {options.chinchilla:g}"
        raise ValueError(f"{what} is less than one batch of {batch_tokens:,} tokens; give more, or --batch-sequences")
    return table(
        CellsTable,
        model=options.model,
        context=options.context,
        tokens=max(1, round(wanted / batch_tokens)) * batch_tokens,
        batch_sequences=sequences,
        precision=auto_precision() if options.precision == "auto" else options.precision,
        evaluation_tokens=options.evaluation_tokens,
        **{name: getattr(options, name) for name in COURSE},
    )


def data_table(options: WorkloadOptions) -> DataTable:
    """The options as a ``[data]`` table of a study. Raises ValueError."""
    return table(
        DataTable,
        source=list(options.data),
        tokenizer=options.tokenizer,
        vocabulary=options.vocabulary,
        validation=named_sources(options.validation),
        epochs=options.epochs,
    )


def table(kind: type[Table], **values: Any) -> Table:
    """A table of a study from values that options gave. Raises ValueError that names the first wrong one."""
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        message = f"{first['msg'][0].lower()}{first['msg'][1:]}"
        raise ValueError(f"{first['loc'][0]}: {message}, not {first['input']!r}") from None


def chinchilla_budget(multiple: float, size: AnyPreset) -> int:
    """Tokens of so many Chinchilla lengths. Raises ValueError."""
    if not (math.isfinite(multiple) and multiple > 0):
        raise ValueError(f"--chinchilla must be a positive number, not {multiple}")
    return chinchilla_tokens(size.parameters_matrix, multiple)


def budget_of(tokens: str, chinchilla: float | None, size: AnyPreset) -> int:
    """The tokens that were asked for in either way; 0 if in none. Raises ValueError."""
    if tokens:
        return token_count(tokens)
    return 0 if chinchilla is None else chinchilla_budget(chinchilla, size)


def execution(options: WorkloadOptions, division: Layout) -> Execution:
    return Execution(
        device=machine().device,
        threads=division.threads,
        micro_batch_sequences=options.micro_batch_sequences,
        compile=options.compile,
    )


def named_sources(given: tuple[str, ...]) -> dict[str, str]:
    """``NAME=SOURCE`` of every further validation set. Raises ValueError."""
    sources = {name: source for name, _, source in (text.partition("=") for text in given)}
    if not all(name and source for name, source in sources.items()) or len(sources) < len(given):
        raise ValueError(f"--validation takes NAME=SOURCE, each name once, not {' '.join(given)!r}")
    return sources


def hyperparameters(name: str, given: dict[str, Any]) -> dict[str, Value]:
    """All hyperparameters of an optimizer, checked. Raises ValueError with one sentence."""
    return dict(optim.get(name).validate(given))


def assignment(text: str) -> tuple[str, Any]:
    """``name=value`` with a JSON value, or a word. Raises ValueError."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise ValueError(f"--set takes name=value, not {text!r}")
    return name.strip(), value_of(value)


def value_of(word: str) -> Any:
    """A JSON value, or else the word. A whole number that has more than 18 digits becomes a float, maybe inf."""
    try:
        return json.loads(word, parse_int=lambda digits: int(digits) if len(digits) < 19 else float(digits))
    except ValueError:
        return word.strip()
