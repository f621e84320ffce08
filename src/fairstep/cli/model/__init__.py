"""``fairstep model ACTION``: a module for each action."""

from __future__ import annotations

from fairstep.cli.shared.dispatch import Menu, Verb

MENU = Menu(
    name="model",
    title="fairstep model: what is trained, ours or anybody's",
    groups={
        "": {
            "check": Verb(
                "roles, counts, first loss, gradients and repetition of a model, before any compute is spent"
            ),
            "coordinates": Verb("whether activations keep their size over widths, with and without muP"),
            "list": Verb("the presets: sizes, context, batch, FLOPs a token"),
        }
    },
    more="""\
examples:
  fairstep model check examples/own_model/model.py:build
  fairstep model check hf:examples/hf/config.json
  fairstep model check 106k
  fairstep model coordinates --widths 64 128 256 --transfer mup
  fairstep model list
""",
)
