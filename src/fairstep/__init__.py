"""fairstep: fair benchmarks for language-model pretraining optimizers.

The rooms are subpackages (see docs/explanation/design.md). Nothing is imported here, so that ``fairstep --help`` and
every verb that does not train answer without loading torch.
"""

__version__ = "0.1.0"
