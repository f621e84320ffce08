"""How fast text becomes tokens: ``python benchmarks/data_preparation.py 'texts/*.jsonl' --workers 1 2``.

Each preparation starts with an empty cache. Prints one JSON line each: MB and tokens a second of wall time, the seconds
of processor time of all processes together (which a busy machine does not change much), and the largest memory of one
process. ``load`` is the machine's load average when it began.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

from fairstep.data import prepare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="+")
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--tokenizer", default="bpe")
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--folder", help="where the caches lie meanwhile", default=None)
    options = parser.parse_args()
    for workers in options.workers:
        stages: dict[str, float] = {}

        def note(stage: str, fraction: float, stages: dict[str, float] = stages) -> None:
            stages[stage] = time.perf_counter()

        load = os.getloadavg()[0]
        before = processor_seconds()
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(dir=options.folder) as cache:
            corpus = prepare(
                options.source,
                vocabulary=options.vocabulary,
                tokenizer=options.tokenizer,
                workers=workers,
                cache=Path(cache),
                progress=note,
            )
        seconds = time.perf_counter() - began
        ends = [began, *stages.values()]
        meta = corpus.train_tokens + corpus.validation_tokens
        megabytes = sum(Path(path).stat().st_size for path in expand(options.source)) / 1e6
        print(
            json.dumps(
                {
                    "workers": workers,
                    "tokenizer": options.tokenizer,
                    "megabytes_on_disk": round(megabytes, 1),
                    "tokens": meta,
                    "seconds": round(seconds, 1),
                    "megabytes_per_second": round(megabytes / seconds, 2),
                    "tokens_per_second": round(meta / seconds),
                    "processor_seconds": round(processor_seconds() - before, 1),
                    "stage_seconds": {
                        name: round(end - start, 1) for name, start, end in zip(stages, ends, ends[1:], strict=False)
                    },
                    "largest_process_megabytes": round(
                        max(
                            resource.getrusage(who).ru_maxrss
                            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
                        )
                        / 1024
                    ),
                    "load": round(load, 1),
                }
            ),
            flush=True,
        )


def processor_seconds() -> float:
    return sum(
        used.ru_utime + used.ru_stime
        for used in (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def expand(sources: list[str]) -> list[str]:
    import glob

    return [path for source in sources for path in glob.glob(source)]  # noqa: PTH207


if __name__ == "__main__":
    main()
