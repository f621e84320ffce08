"""A finished run as a folder that other tools read: config.json, model.safetensors and, where known, a tokenizer.

Needs the run's weights.safetensors and nothing beyond the core packages; Transformers reads the result.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from fairstep.data import DataError, open_corpus
from fairstep.runs import Run

WEIGHTS = "weights.safetensors"


def export_hf(run: Run, folder: Path) -> Path:
    """Write the run's model for Hugging Face Transformers into ``folder`` and return it.

    The tokenizer is copied when the run's corpus is in the cache and has a tokenizer.json. Raises ValueError for a run
    without weights or a model that Transformers has no equal of, OSError when the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    from fairstep.model.hf import hf_config, hf_weights

    try:
        spec = run.spec
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{run.directory} is not a run: it has no spec.json") from None
    config = spec.model
    settings = hf_config(config)
    source = run.directory / WEIGHTS
    if not source.exists():
        why = "save its weights when it is trained (--save-weights)" if run.finished else f"it is {run.status}"
        raise ValueError(f"the run {run.id} has no {WEIGHTS}: {why}")
    try:
        weights = hf_weights(config, load_file(source))
    except SafetensorError as error:
        raise ValueError(f"{source} cannot be read ({error}); delete it and train the run again") from None
    folder.mkdir(parents=True, exist_ok=True)
    end_of_text = _tokenizer(run, folder)
    if end_of_text is not None:
        settings |= {"bos_token_id": end_of_text, "eos_token_id": end_of_text}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    # Written last: a folder with a config.json is whole.
    (folder / "config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    return folder


def _tokenizer(run: Run, folder: Path) -> int | None:
    """Copy the corpus's tokenizer and say what ends a text; returns that token, None when there is no tokenizer."""
    from tokenizers import Tokenizer

    data = run.spec.data
    try:
        path = open_corpus(data.fingerprint, data.vocabulary).directory / "tokenizer.json"
    except DataError:
        return None
    if not path.exists():
        return None
    tokenizer = Tokenizer.from_file(str(path))
    special = [token for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    shutil.copyfile(path, folder / "tokenizer.json")
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": run.spec.model.context,
        "clean_up_tokenization_spaces": False,
    }
    if special:
        mark = special[0].content
        settings |= {"bos_token": mark, "eos_token": mark, "pad_token": mark}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    return tokenizer.token_to_id(special[0].content) if special else None
