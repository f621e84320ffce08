"""``fairstep study ACTION``: each action has a module of its own, loaded when it is called."""

from __future__ import annotations

import difflib
import importlib

from fairstep.cli import fail

ACTIONS = {
    "plan": ("fairstep.cli.study_plan", "trials, tokens, FLOPs and device hours of a study file, before it runs"),
    "run": ("fairstep.cli.study_run", "carry a study out, or go on with it, on this machine, on Ray or on Slurm"),
    "status": ("fairstep.cli.status", "how far a study is, and the certificate of every contestant"),
    "replay": ("fairstep.cli.replay", "W's phase I on its published sweeps, without training"),
}
"""Module and what it does, in the order of the help."""

HELP = """fairstep study: contestants x cells x a tuning protocol x seeds

usage: fairstep study ACTION [options]        fairstep study ACTION --help explains one

{actions}

example:
  fairstep study plan studies/wen-phase1.toml
  fairstep study run studies/demo.toml
  fairstep study status studies/demo.toml
  fairstep study replay --optimizer muon
"""


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP.format(actions="\n".join(f"  {name:8}{text}" for name, (_, text) in ACTIONS.items())), end="")
        return 0
    action, *rest = arguments
    if action not in ACTIONS:
        near = difflib.get_close_matches(action, ACTIONS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"the actions are {', '.join(ACTIONS)}"
        return fail(f"unknown action {action!r} of study; {hint}")
    return int(importlib.import_module(ACTIONS[action][0]).main(rest) or 0)
