"""TensorBoard: a folder with event files is one run, read with the tensorboard package (extra track).

Scalars are columns, with a row a step. Hyperparameters are columns if ``add_hparams`` wrote them into the same folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fairstep.imported.source import InputError, Source, frame_of, need, table

KIND = "TensorBoard run"
PATTERN = "events.out.tfevents.*"


def claims(path: Path) -> bool:
    return any(path.glob(PATTERN)) if path.is_dir() else path.match(PATTERN)


def read(path: Path) -> list[Source]:
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.plugins.hparams import plugin_data_pb2
        from tensorboard.util import tensor_util
    except ImportError:
        raise need("tensorboard", "track", path) from None
    events = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0})
    try:
        events.Reload()
        tags = events.Tags()
    except Exception as error:  # whatever a damaged file makes protobuf raise
        raise InputError(f"{path} cannot be read as TensorBoard events: {error}") from None
    rows: dict[int, dict[str, Any]] = {}
    for tag in tags["scalars"]:
        for event in events.Scalars(tag):
            rows.setdefault(event.step, {})[tag] = float(event.value)
    for tag in tags["tensors"]:
        for event in events.Tensors(tag):
            value = tensor_util.make_ndarray(event.tensor_proto)
            if value.size == 1 and value.dtype.kind in "fi":
                rows.setdefault(event.step, {})[tag] = float(value.item())
    if not rows:
        return [Source(path, KIND, notes=(f"{path} has no scalars and is left out.",))]
    given: dict[str, Any] = {}
    for metadata in events.summary_metadata.values():
        if metadata.plugin_data.plugin_name == "hparams":
            info = plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content).session_start_info
            given |= {
                name: getattr(one, one.WhichOneof("kind") or "string_value") for name, one in info.hparams.items()
            }
    table_rows = [{"step": step, "run": str(path)} | given | row for step, row in sorted(rows.items())]
    return [table(path, KIND, frame_of(table_rows), log=True)]
