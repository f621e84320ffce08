"""Write the table of docs/results/parity.md: how far our optimizers are from implementations that we did not write.

FAIRSTEP_PARITY=rows.json make test-oracles
python tools/parity_table.py rows.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "results" / "parity.md"
MARK = "<!-- parity -->"


def table(rows: list[tuple[str, str, str, float, float]]) -> str:
    """Markdown: optimizer, peer, arithmetic, difference, tolerance."""
    lines = ["| optimizer | compared with | arithmetic | difference | tolerance |", "|---|---|---|---|---|"]
    lines += [f"| {r[0]} | {r[1]} | {r[2]} | {r[3]:.1e} | {r[4]:.0e} |" for r in rows]
    return "\n".join(lines)


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python tools/parity_table.py ROWS.json, a file that FAIRSTEP_PARITY named")
    rows = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    before, _, after = PAGE.read_text(encoding="utf-8").split(MARK)
    PAGE.write_text(f"{before}{MARK}\n{table(rows)}\n{MARK}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
