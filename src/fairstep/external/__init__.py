"""One run of somebody else's trainer: CommandSpec in, run directory out.

A command is started in a process group of its own, or a callable is called in the worker. What it prints is kept and
bounded, its loss is read, and nothing of it stays when it ends or its worker dies. ``python -m fairstep.external``
speaks the launchers' protocol, as ``fairstep.train`` does. No torch, no models, and no knowledge of contests.
"""

from fairstep.external.trial import carry_out

__all__ = ["carry_out"]
