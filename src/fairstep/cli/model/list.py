"""``fairstep model list``: the presets, with what they cost."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from fairstep.analysis import count_text
from fairstep.cli.shared import screen
from fairstep.cli.shared.options import parse
from fairstep.model import PRESETS
from fairstep.model.shapes import counts, flops_per_token


@dataclass(frozen=True)
class ListOptions:
    """List the models that have names: the ladder for CPUs, the sizes of both papers, and others.

    Example: fairstep model list
    """

    json: bool = False
    """Print as JSON."""


def main(arguments: list[str]) -> int:
    options = parse(ListOptions, "model list", arguments)
    rows: list[dict[str, Any]] = [
        {
            "model": name,
            "architecture": preset.model.architecture,
            "parameters_matrix": preset.parameters_matrix,
            "parameters": counts(preset.model).total,
            "layers": preset.model.layers,
            "width": preset.model.width,
            "context": preset.context,
            "batch_sequences": preset.batch_sequences,
            "flops_per_token": flops_per_token(preset.model),
        }
        for name, preset in PRESETS.items()
    ]
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    header = ["model", "architecture", "matrices", "parameters", "layers", "width", "context", "batch", "FLOPs a token"]
    large = ("parameters_matrix", "parameters", "flops_per_token")
    cells = [[count_text(value) if key in large else str(value) for key, value in row.items()] for row in rows]
    screen.print_table("", header, cells, left=2)
    screen.out(
        "\n* LAYERSxWIDTH, such as 24x1024, is a dense Llama of another size; docs/howto/my-model.md has anybody's."
    )
    return 0
