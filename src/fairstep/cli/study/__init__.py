"""``fairstep study ACTION``: a module for each action."""

from __future__ import annotations

from fairstep.cli.shared.dispatch import Menu, Verb

MENU = Menu(
    name="study",
    title="fairstep study: contestants x cells x a tuning protocol x seeds",
    groups={
        "": {
            "plan": Verb("trials, tokens, FLOPs and device hours of a study file, before it runs"),
            "run": Verb("carry a study out, or go on with it, on this machine, on Ray or on Slurm"),
            "status": Verb("how far a study is, and the certificate of every contestant"),
            "replay": Verb("W's phase I on its published sweeps, without training"),
        }
    },
    more="""\
examples:
  fairstep study plan studies/wen-phase1.toml
  fairstep study run studies/demo.toml
  fairstep study status studies/demo.toml
  fairstep study replay --optimizer muon
""",
)
