"""Put the verdict table of a store into the README, between its two verdict marks.

    make demo && python tools/readme_table.py runs/demo
    python tools/screenshot.py runs/demo/report.html docs/report.png --height 1640

So that the README's numbers come from a contest that anyone can run, and nobody types them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fairstep.analysis import COLUMNS, contest_result, count_text, headline, verdict_rows
from fairstep.runs import Store

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- verdict -->", "<!-- /verdict -->"


def markdown(store: Store) -> str:
    """The newest contest of a store as a sentence, a table and what it was measured on."""
    ledger, runs = store.ledgers()[-1], store.runs()
    result = contest_result(ledger, runs)
    here = store.run(ledger.trials[0].run).environment
    cell = result["cell"]
    rows = [list(COLUMNS.values()), ["---"] * len(COLUMNS)]
    rows += [[row[key] for key in COLUMNS] for row in verdict_rows(result)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return (
        f"**{headline(result)}.**\n\n{table}\n\n"
        f"{count_text(cell['parameters_matrix'])} matrix parameters, {count_text(cell['tokens'])} tokens a run, "
        f"{cell['precision']}, {len(ledger.trials)} trainings; {here['processor'].strip()}, "
        f"torch {here['torch']}, Python {here['python']}."
    )


def main() -> None:
    if len(sys.argv) != 2 or not Store(sys.argv[1]).ledgers():
        raise SystemExit("usage: python tools/readme_table.py STORE, a folder that `make demo` wrote")
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{markdown(Store(sys.argv[1]))}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
