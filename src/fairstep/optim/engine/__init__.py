"""The engine: one torch optimizer that runs any rule over any model.

``routing`` gives parameters roles, ``routed`` makes param groups of them, ``stacks`` handles many parameters as one
tensor, ``step`` takes the step, ``state`` saves and loads. What may not go in: the mathematics of an optimizer.
"""

from fairstep.optim.engine.engine import Engine
from fairstep.optim.engine.routed import UNDECAYED, Routed

__all__ = ["UNDECAYED", "Engine", "Routed"]
