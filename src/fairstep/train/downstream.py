"""Downstream tasks of a run through lm-eval (EleutherAI's evaluation harness), which reads the exported model."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fairstep.runs import Run
from fairstep.train.export import export_hf, why_no_tokenizer

EXTRA = "pip install 'fairstep[eval]'"


def score(
    run: Run,
    tasks: Sequence[str],
    *,
    task_folder: Path | None = None,
    few_shot: int | None = None,
    limit: int | None = None,
    batch_sequences: int = 8,
    device: str = "cpu",
) -> dict[str, dict[str, Any]]:
    """Task -> metric -> value, by lm-eval's own names of both; ``samples``: the number of examples, ``falling``: the
    metrics that are the better the lower they are.

    ``task_folder`` holds further tasks as lm-eval's YAML files; ``limit`` scores the first examples only. Tasks whose
    data is not on this machine are fetched by lm-eval. Raises ValueError when the extra is missing, for unknown tasks,
    for a run that cannot be exported or has no tokenizer.
    """
    if not all(find_spec(name) for name in ("lm_eval", "transformers", "accelerate")):
        raise ValueError(f"scoring tasks needs lm-eval and Transformers; install them with {EXTRA}")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that are not ours, about one another
        folder = export_hf(run, Path(temporary) / "hf")
        if not (folder / "tokenizer.json").exists():
            raise ValueError(f"tasks need the tokenizer of {run.own_spec.data.name}: {why_no_tokenizer(run)}")
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        logging.getLogger("transformers").setLevel(logging.ERROR)
        from lm_eval import simple_evaluate
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_path=None if task_folder is None else str(task_folder))
        unknown = [task for task in tasks if not manager.match_tasks([task])]
        if unknown:
            raise ValueError(f"lm-eval has no task {unknown[0]!r}; --task-folder names a folder with tasks of your own")
        try:
            found = simple_evaluate(
                model="hf",
                model_args={"pretrained": str(folder), "dtype": "float32", "max_length": run.own_spec.model.context},
                tasks=list(tasks),
                num_fewshot=few_shot,
                limit=limit,
                batch_size=batch_sequences,
                device=device,
                task_manager=manager,
                verbosity="ERROR",
            )
        except AssertionError:  # which lm-eval raises without a word
            raise ValueError(
                f"lm-eval stopped in a check of its own at {', '.join(tasks)}, probably as an answer has no token or "
                f"more than the model's context of {run.own_spec.model.context}; leave such questions out"
            ) from None
    assert found is not None
    samples = {task: counts["effective"] for task, counts in found["n-samples"].items()}
    rises: dict[str, dict[str, bool]] = found["higher_is_better"]
    return {
        task: {name: value for name, value in row.items() if name not in ("alias", " ")}
        | {"samples": samples.get(task), "falling": [name for name, up in rises.get(task, {}).items() if up is False]}
        for task, row in found["results"].items()
    }
