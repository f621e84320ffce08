"""A finished run as a folder that other tools read: config.json, model.safetensors and, where known, a tokenizer.

Needs the run's weights.safetensors and nothing beyond the core packages; Transformers reads the result.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fairstep.data import DataError, open_corpus
from fairstep.model.exported import exported_config, exported_weights, problem
from fairstep.runs import Run

WEIGHTS = "weights.safetensors"


def export_hf(run: Run, folder: Path) -> Path:
    """Write the run's model for Hugging Face Transformers into ``folder`` and return it.

    The tokenizer is written when the run's corpus is in the cache, and every file names the corpus's own end of text.
    Raises ValueError for a run without weights or a model that Transformers has no equal of, OSError when the folder
    cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from fairstep.train.weights import write_safetensors

    try:
        spec = run.own_spec
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{run.directory} is not a run: it has no spec.json") from None
    config = spec.model
    settings = exported_config(config)
    source = run.directory / WEIGHTS
    if not source.exists():
        why = (
            "contests and packed stores keep none; export and eval with --again train it again in runs/again, weights "
            "and all"
            if run.finished
            else f"it is {run.status}"
        )
        raise ValueError(f"the run {run.id} has no {WEIGHTS}: {why}")
    try:
        ours = load_file(source)
    except SafetensorError as error:
        raise ValueError(f"{source} cannot be read ({error}); delete it and train the run again") from None
    if wrong := problem(config, ours):
        raise ValueError(f"{source} is not of this run ({wrong}); delete it and train the run again")
    weights = exported_weights(config, ours)
    folder.mkdir(parents=True, exist_ok=True)
    end_of_text = _tokenizer(run, folder)
    if end_of_text is not None:
        ends = {"bos_token_id": end_of_text, "eos_token_id": end_of_text, "pad_token_id": end_of_text}
        settings |= ends
        (folder / "generation_config.json").write_text(json.dumps(ends, indent=1) + "\n", encoding="utf-8")
    write_safetensors(folder / "model.safetensors", weights)
    # Written last: a folder with a config.json is whole.
    (folder / "config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    return folder


def why_no_tokenizer(run: Run) -> str:
    """Why an export of the run has no tokenizer; nothing when it has one."""
    try:
        open_corpus(run.own_spec.data.fingerprint, run.own_spec.data.vocabulary).open_tokenizer().hugging_face()
    except DataError as error:
        return str(error)
    return ""


def _tokenizer(run: Run, folder: Path) -> int | None:
    """Write the corpus's tokenizer; returns its end of text, None when the corpus is not in the cache."""
    data = run.own_spec.data
    try:
        corpus = open_corpus(data.fingerprint, data.vocabulary)
    except DataError:
        return None
    first = corpus.parts[0][0] if corpus.parts else corpus
    end_of_text = int(first.tokenizer.get("end_of_text", 0))
    try:
        tokenizer = corpus.open_tokenizer()
        theirs = tokenizer.hugging_face()
    except DataError:  # token files that came without one
        return end_of_text
    theirs.save(str(folder / "tokenizer.json"))
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": run.own_spec.model.context,
        "clean_up_tokenization_spaces": False,
        "bos_token": tokenizer.mark,
        "eos_token": tokenizer.mark,
        "pad_token": tokenizer.mark,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    return end_of_text
