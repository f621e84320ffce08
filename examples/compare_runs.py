"""The largest relative difference between the training losses of two stores' only runs, step by step.

python examples/compare_runs.py runs/one runs/two
"""

import sys

from fairstep.runs import Store


def losses(path: str) -> list[float]:
    """Losses of the rows of the first run in a store."""
    return [row["loss"] for row in Store(path).runs()[0].metrics()]


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/compare_runs.py STORE STORE")
    first, second = (losses(path) for path in sys.argv[1:])
    print(max(abs(one / other - 1) for one, other in zip(first, second, strict=True)))


if __name__ == "__main__":
    main()
