"""From the name of anybody's model to its spec, without torch.

hf:config.json, hf:FOLDER, FOLDER/config.json   a config of Hugging Face Transformers, weights new
hf:OWNER/NAME                                   the config in the local cache of Hugging Face
package.module:build, path/file.py:build        a function ``build(vocabulary, context)`` that returns a module
"""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from pathlib import Path
from typing import Any

from fairstep.runs import ForeignModelSpec, SpecError, callables
from fairstep.runs.command_spec import code_hash

EXTRA = "pip install 'fairstep[eval]'"

VOCABULARY = 512
"""Of a factory, until a text is known."""

CONTEXT, MOST_CONTEXT = 128, 1024
"""Tokens of a sequence where none is asked for: of a factory, and of a config, whose own is often much longer."""

POSITIONS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "n_ctx")
"""Keys of a config that bound the context."""

OURS = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id", "dtype", "torch_dtype", "use_cache")
"""Keys of a config that the run decides."""

ELSEWHERE = ("transformers_version", "_name_or_path", "architectures")
"""Keys of a config that decide nothing."""


def is_foreign(name: str) -> bool:
    """Whether a name means anybody's model; else it is a preset's."""
    return ":" in name or name.endswith(".json")


def described(name: str, context: int = 0) -> ForeignModelSpec:
    """The model of a name, with its vocabulary before a text is known, and nothing counted yet.

    ``context``: tokens of a sequence; 0: the model's. Raises SpecError with one sentence.
    """
    if context < 0:
        raise SpecError(f"context must be at least 1, not {context}")
    if name.startswith("hf:") or name.endswith(".json"):
        return _of_config(name.removeprefix("hf:"), context)
    return _of_factory(name, context)


def code_of(spec: ForeignModelSpec) -> str:
    """Which code would build the model here. Raises SpecError."""
    if spec.config:
        return transformers_version()
    file = callables.file_of(spec.factory, spec.directory, "model")
    root = callables.root_of(spec.factory, file)
    return code_hash(root, callables.sources(file, root))


def transformers_version() -> str:
    """Raises SpecError where Transformers is not installed."""
    try:
        return f"transformers {metadata.version('transformers')}"
    except metadata.PackageNotFoundError:
        raise SpecError(f"a config of Transformers needs the extra eval; install it with {EXTRA}") from None


def _of_config(place: str, context: int) -> ForeignModelSpec:
    config = _read(place)
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        raise SpecError(f"{place} is no config of Transformers: it has no model_type")
    if "auto_map" in config:
        raise SpecError(
            f"{place} needs code of its own repository (auto_map), which is not run; write a function that builds the "
            "model and name it as file.py:build"
        )
    positions = next((config[key] for key in POSITIONS if isinstance(config.get(key), int)), 0)
    if positions and context > positions:
        raise SpecError(f"{place} has {positions} positions, fewer than a context of {context}; give --context less")
    vocabulary = config.get("vocab_size")
    own = Path(place).exists()
    return _named(
        f"hf:{kind if own else Path(place).name}",
        config={key: value for key, value in config.items() if key not in (*OURS, *ELSEWHERE)},
        code=transformers_version(),
        vocabulary=vocabulary if isinstance(vocabulary, int) and vocabulary > 0 else VOCABULARY,
        context=context or min(positions or MOST_CONTEXT, MOST_CONTEXT),
    )


def _read(place: str) -> dict[str, Any]:
    path = Path(place)
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        file = _cached(place)
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{file} is no config of Transformers: it is no JSON ({error})") from None
    if not isinstance(config, dict):
        raise SpecError(f"{file} is no config of Transformers: it is no table of names and values")
    return config


def _cached(place: str) -> Path:
    """config.json of a model id in the cache of Hugging Face."""
    missing = f"hf:{place} is neither a config.json, nor a folder with one"
    if place.endswith(".json") or place.count("/") > 1 or not place.strip("/"):
        raise SpecError(f"{missing}; there is no such file")
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ModuleNotFoundError:
        raise SpecError(f"{missing}; a model id needs the extra eval ({EXTRA})") from None
    try:
        found = try_to_load_from_cache(place, "config.json")
    except HFValidationError:
        found = None
    if not isinstance(found, str):
        raise SpecError(
            f"{missing}, nor a model whose config.json is in the local cache; fetch it with "
            f"`hf download {place} config.json`"
        )
    return Path(found)


def _of_factory(name: str, context: int) -> ForeignModelSpec:
    place, _, function = name.rpartition(":")
    is_file = place.endswith(".py")
    if not function.isidentifier() or not (is_file or all(part.isidentifier() for part in place.split("."))):
        raise SpecError(
            f"a model is a preset (`--model 106k`), a config (hf:config.json), or a function that builds it, written "
            f"package.module:build or path/file.py:build, not {name!r}"
        )
    file = callables.file_of(name, "" if is_file else str(Path.cwd()), "model")
    root = callables.root_of(name, file)
    return _named(
        f"{file.name if is_file else place}:{function}",
        factory=f"{file.name if is_file else place}:{function}",
        code=code_hash(root, callables.sources(file, root)),
        vocabulary=VOCABULARY,
        context=context or CONTEXT,
        directory=str(root),
    )


def _named(label: str, **fields: Any) -> ForeignModelSpec:
    """The spec, called by its label and a hash of all but the vocabulary, which the text decides."""
    spec = ForeignModelSpec(**fields)
    digest = hashlib.sha256(spec.model_copy(update={"vocabulary": 1}).semantic().encode()).hexdigest()
    return spec.model_copy(update={"preset": f"{label}@{digest[:8]}"})
