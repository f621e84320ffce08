"""What a store holds, as polars tables: every run, the best learning rates, the loss over the steps of one run.

python examples/read_store.py runs/demo
"""

import sys

import polars as pl

from fairstep.runs import Store


def main() -> None:
    store = Store(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
    runs = store.table()  # one row per run; fairstep.runs says what the columns mean
    if runs.is_empty():
        sys.exit(f"there are no runs in {store.path}; `make demo` makes some")

    best = (
        runs.filter(pl.col("status") == "done")
        .group_by("model", "optimizer", "budget_tokens", "lr")
        .agg(pl.col("final_loss").mean().alias("mean_loss"), pl.len().alias("runs"))
        .sort("mean_loss")
        .group_by("model", "optimizer", "budget_tokens", maintain_order=True)
        .first()
    )
    print("best learning rate of each optimizer at each budget (nats per token)")
    print(best)

    for ledger in store.ledgers():
        trials = pl.DataFrame(
            [{"contestant": t.contestant, "phase": t.phase, "tokens": t.tokens} for t in ledger.trials]
        )
        print(f"\n{ledger.name}: what was spent")
        print(
            trials.group_by("contestant", "phase")
            .agg(pl.len().alias("trials"), pl.col("tokens").sum())
            .sort("contestant")
        )

    run = store.runs()[0]
    curve = pl.DataFrame(
        [{"step": row["step"], "loss": row["loss"]} for row in run.metrics() if row["kind"] == "train"]
    )
    print(f"\ntraining loss of run {run.id}, {run.spec.optimizer.name}")
    print(curve.tail(5))


if __name__ == "__main__":
    main()
