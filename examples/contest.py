"""A contest from Python, without the command line: AdamW against Lion, tuned alike, with fresh paired seeds.

python examples/contest.py --store runs/example --tokens 150000
"""

import argparse
from pathlib import Path

from fairstep.analysis import contest_result, headline, verdict_rows
from fairstep.data import prepare
from fairstep.model import preset
from fairstep.runs import DataSpec, Execution, Ledger, ModelSpec, Store, machine
from fairstep.study import Contest, LocalLauncher, Workload, carry_out, entry, layout

CELL = "27k"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", type=Path, default=Path("runs/example"))
    parser.add_argument("--tokens", type=int, default=150_000)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()

    corpus = prepare()  # Python's standard library; or prepare("texts/*.txt")
    size = preset(CELL)
    workload = Workload(
        model=ModelSpec(**size.fields(corpus.vocabulary)),
        data=DataSpec(name=corpus.name, fingerprint=corpus.fingerprint, vocabulary=corpus.vocabulary),
        batch_sequences=size.batch_sequences,
        tokens=options.tokens,
        evaluation_tokens=16_384,
        execution=Execution(threads=1, compile=False),  # so small a model is trained sooner than it is compiled
    )
    cells = {CELL: workload}
    contestants = tuple(entry(name, cells, only=["lr"]) for name in ("adamw", "lion"))
    contest = Contest(cells, contestants, baseline="adamw", seeds=options.seeds, budgets=(0.5, 2.0))
    ledger = Ledger(
        name="example",
        command="python examples/contest.py",
        baseline="adamw",
        contestants=("adamw", "lion"),
        cell=workload.cell(),
    )
    store = Store(options.store).writable()
    with LocalLauncher(machine(), layout(machine(), size.parameters(corpus.vocabulary))) as launcher:
        ledger = carry_out(contest, {CELL: ledger}, store, launcher)[CELL]

    result = contest_result(ledger, store.runs())
    print(headline(result))
    for row in verdict_rows(result):
        print(f"{row['name']:8}{row['loss']:18}{row['speedup']:22}{row['verdict']}")


if __name__ == "__main__":
    main()
