"""Plan a study file, run it, and print its certificates. The study is study.toml beside this script.

python examples/study.py --store runs/study
"""

import argparse
import sys
from pathlib import Path

from fairstep.cli import main as fairstep
from fairstep.runs import Store

FILE = Path(__file__).with_name("study.toml")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", type=Path, default=Path("runs/study"))
    parser.add_argument("--plan-only", action="store_true")
    options = parser.parse_args()

    # The same as `fairstep study plan study.toml`: trials, tokens and hours, and every mistake in the file.
    if (code := fairstep(["study", "plan", str(FILE)])) or options.plan_only:
        return code
    # Stop it whenever you like: the same call continues where it was.
    if code := fairstep(["study", "run", str(FILE), "--store", str(options.store)]):
        return code
    for ledger in Store(options.store).ledgers():
        for certificate in ledger.certificates.values():
            print(certificate.text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
