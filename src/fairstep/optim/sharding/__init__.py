"""How ranks share an optimizer's work: costs of steps, who steps what, sums over shared rows, and pieces of state.

What may not go in: communication (the trainer's, and of DTensors ``engine.dtensors``) and param groups (``engine``).
"""
