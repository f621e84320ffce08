"""The page's section on repeating a contest: commands, and in words what its runs ran on."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fairstep.analysis import plural
from fairstep.report.loaded import LoadedContest
from fairstep.report.section import Section, command, paragraph
from fairstep.report.tables import facts

Environment = Mapping[str, Any]


def reproduce_section(loaded: LoadedContest) -> Section:
    words = (
        "The command plans the same runs, finds those that are in its store, and trains the others. One run alone: "
        "copy its spec.json (every setting is in it) into a folder DIR/runs/RUN of your own and train that."
    )
    store = shlex.quote(loaded.store)
    module = "fairstep.train" if loaded.ledger.cell.vocabulary else "fairstep.external"
    one = f"mkdir -p DIR/runs/RUN && cp {store}/runs/RUN/spec.json DIR/runs/RUN/ && python -m {module} DIR/runs/RUN"
    environments = [run.environment for run in loaded.trials.runs.values()]
    parts = [command(loaded.ledger.command), paragraph(words), command(one), facts(_facts(loaded, environments))]
    return Section(loaded.key("reproduce"), "Reproduce", parts)


def _facts(loaded: LoadedContest, environments: Sequence[Environment]) -> list[tuple[str, str]]:
    cell = loaded.ledger.cell
    text = f"{cell.data}, vocabulary of {cell.vocabulary:,} tokens, fingerprint {cell.fingerprint}"
    if not cell.vocabulary:
        text = f"{cell.data or 'of the trainer'}, whose code has the SHA-256 {cell.fingerprint or '(not known)'}"
    if source := _values(" ".join(map(str, _listed(one.get("data_source")))) for one in environments):
        text += f", made of {source}"
    pairs = [
        ("text", text),
        ("processor", _values(one.get("processor") for one in environments)),
        ("each run", _values(map(_division, environments))),
        ("software", _values(map(_software, environments))),
        ("system", _values(one.get("platform") for one in environments)),
        ("trained", _trained(environments)),
    ]
    return [(name, words) for name, words in pairs if words]


def _values(values: Iterable[Any]) -> str:
    """What differs between runs: up to three values."""
    given = list(dict.fromkeys(str(value) for value in values if value not in (None, "")))
    return "; or ".join(given[:3]) + (f"; and {len(given) - 3} more" if len(given) > 3 else "")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def _division(one: Environment) -> str:
    """Such as: on cpu, 1 process with 2 threads, bf16, compiled."""
    parts = [f"on {one['device']}"] if one.get("device") else []
    processes, threads = one.get("processes"), one.get("threads")
    if isinstance(threads, int):
        many = processes if isinstance(processes, int) else 1
        parts.append(f"{many} process{'' if many == 1 else 'es'} with {plural(threads, 'thread')}")
    parts += [str(one[key]) for key in ("parallel", "precision") if one.get(key)]
    if "compiled" in one:
        parts.append("compiled" if one["compiled"] else "not compiled")
    return ", ".join(parts)


def _software(one: Environment) -> str:
    names = {"fairstep": "fairstep", "torch": "torch", "python": "Python"}
    return ", ".join(f"{name} {one[key]}" for key, name in names.items() if one.get(key))


def _trained(environments: Sequence[Environment]) -> str:
    """When, and how many runs were interrupted or began with a note."""
    starts = [[start for start in _listed(one.get("starts")) if isinstance(start, Mapping)] for one in environments]
    times = sorted(str(start.get("at", "")) for run in starts for start in run if start.get("at"))
    if not times:
        return ""
    first, last = (time.replace("T", " ")[:16] for time in (times[0], times[-1]))
    words = f"begun from {first} to {last} UTC" if first != last else f"begun at {first} UTC"
    again = sum(len(run) > 1 for run in starts)
    noted = list(dict.fromkeys(str(note) for run in starts for start in run for note in _listed(start.get("notes"))))
    words += f"; {plural(again, 'run')} went on after an interruption" if again else "; no run was interrupted"
    return words + "".join(f"; {note}" for note in noted[:3])
