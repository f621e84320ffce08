"""Write docs/optimizers.md: what there is, how it differs from other implementations, and by how much.

python tools/optimizers_page.py                       # the specs anew, the measured differences as they are
python tools/optimizers_page.py --parity rows.json    # those too, from FAIRSTEP_PARITY=rows.json make test-oracles
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from fairstep import optim
from fairstep.optim.wrappers import wrappers

PAGE = Path(__file__).parents[1] / "docs" / "optimizers.md"
MARK = "<!-- parity -->"

INTRODUCTION = """# Optimizers

`fairstep optimizers` lists them, `fairstep optimizers show soap` prints one with its equations, options, defaults with
their sources, costs and what both papers chose. This page is written from the same specs by
`python tools/optimizers_page.py`.

## Reading a spec

* A **learning rate** has a unit, and different units cannot be compared: 0.02 is small for Muon and large for Lion.
* **Roles** say which rule takes which parameter: matrix, embedding, head, vector (fewer than two dimensions), expert,
  router. `optimizer.routing_table()` prints who got what.
* **Decay** is decoupled unless a spec says otherwise; vectors and embeddings get none, unless `undecayed=()`.
* **Defaults** carry their source. `spec.defaults_at(parameters_matrix)` and `spec.search_space_at(parameters_matrix)`
  give those of the nearest scale in either paper (S: arXiv 2509.01440, W: arXiv 2509.02046), with source; sizes are
  matrix parameters. `spec.tunings` are all of them. The learning-rate grid of the list is for models that a CPU trains.
* **State** is floats of optimizer state, **FLOPs** those of one step, of an o x i matrix with N = o i, k = min(o, i),
  K = max(o, i).

## Bring your own

Any class of `torch.optim.Optimizer` competes by its path, with no edit here:

    fairstep doctor mypackage.optim:Mine
    fairstep compare adamw mypackage.optim:Mine --space lr=log:1e-4:1e-2
    fairstep train pytorch_optimizer:AdaBelief --lr 1e-3 --set betas=[0.9,0.98]

The path is looked for in the installed packages and in the current folder. Arguments with numbers, switches and words
as defaults are its hyperparameters (`betas` is `beta1, beta2`); vectors and embeddings get no weight decay, as with
ours. Its distribution's version, or a hash of its package's source, is part of a run's identity, so an edited optimizer
is trained anew. A package gives its optimizer a short name with an entry point in the group `fairstep.optimizers`. An
`OptimizerSpec` at the path, a rule of your own on our engine, works too. What needs a closure does not compete: it
would see more than one gradient a step.

`--space` takes a range (`lr=log:1e-4:1e-2`, in steps of about 2; `log:1e-4:1e-2:5`: five values), a list
(`lr=1e-3,2e-3`), one contestant's (`lion.lr=...`), or a TOML file:

    ["mypackage.optim:Mine"]
    lr = "log:1e-4:1e-2"

Every contestant gets as many configurations as the longest space has. Without `--space` a foreign optimizer is tuned
around its default learning rate, and the command says so.

`fairstep doctor` builds the optimizer on a model of a thousand weights, takes a few dozen steps, and says in words what
is wrong, what to do, and whether a contest here would be hurt. Compiled optimizers are run uncompiled there; in a run
they compile, which takes heavyball minutes on a CPU (`TORCHDYNAMO_DISABLE=1` avoids it).
"""


def specs_table() -> str:
    rows = [
        "| name | other names | unit of the learning rate | state | FLOPs | reference |",
        "|---|---|---|---|---|---|",
    ]
    for spec in optim.specs().values():
        rule = spec.part("matrix").rule
        cells = (f"`{spec.name}`", ", ".join(spec.aliases), spec.lr_unit, rule.state_formula, rule.flops_formula)
        rows.append(f"| {' | '.join(cells)} | {spec.reference} |")
    return "\n".join(rows)


def wrappers_table() -> str:
    rows = ["| wrapper | what it does | reference |", "|---|---|---|"]
    rows += [f"| `+{wrapper.name}` | {wrapper.title} | {wrapper.reference} |" for wrapper in wrappers().values()]
    return "\n".join(rows)


def differences() -> str:
    """The paragraph of every docstring that says how a rule differs from others; rules of one file share it."""
    found: dict[str, list[str]] = {}
    for spec in optim.specs().values():
        for text in re.findall(r"Differences from other implementations:\s+(.*?)(?:\n\n|$)", spec.text, re.DOTALL):
            if not text.startswith("see "):
                found.setdefault(" ".join(text.split()), []).append(spec.title)
    return "\n".join(f"* **{', '.join(dict.fromkeys(titles))}**: {text}" for text, titles in found.items())


def parity(rows: list[tuple[str, str, str, float, float]]) -> str:
    lines = ["| optimizer | compared with | arithmetic | difference | tolerance |", "|---|---|---|---|---|"]
    lines += [f"| {r[0]} | {r[1]} | {r[2]} | {r[3]:.1e} | {r[4]:.0e} |" for r in rows]
    return "\n".join(lines)


def page(measured: str) -> str:
    return "\n".join(
        [
            INTRODUCTION,
            "## The list\n",
            specs_table(),
            "\nWrappers go around any of them, with a plus, as in `adamw+ema`:\n",
            wrappers_table(),
            "\n## Differences from other implementations\n",
            differences(),
            "\n## Measured against other implementations\n",
            "The largest difference after at least 20 steps, relative to the way gone, with weight decay and gradients",
            "of mixed scales that change with every step. Regenerate with",
            "`FAIRSTEP_PARITY=rows.json make test-oracles && python tools/optimizers_page.py --parity rows.json`.\n",
            MARK,
            measured,
            MARK,
            "",
        ]
    )


def measured_before() -> str:
    parts = PAGE.read_text(encoding="utf-8").split(MARK) if PAGE.exists() else []
    return parts[1].strip() if len(parts) == 3 else ""


if __name__ == "__main__":
    if "--parity" in sys.argv:
        given = json.loads(Path(sys.argv[sys.argv.index("--parity") + 1]).read_text(encoding="utf-8"))
        table = parity(given)
    else:
        table = measured_before()
    PAGE.write_text(page(table), encoding="utf-8")
