"""The common language: what a run is, where it is kept, and how runs become a table.

Only nouns that every room shares belong here. No training, no statistics, no screen, and no torch.
"""

from fairstep.runs.certificate import Certificate
from fairstep.runs.command_spec import CommandSpec, LossSource, Trainer
from fairstep.runs.data_spec import DataSpec
from fairstep.runs.design import Design, Look
from fairstep.runs.files import open_own, read_json, to_disk, write_atomic
from fairstep.runs.foreign_model_spec import ForeignModelSpec, ModelFacts
from fairstep.runs.frozen import SpecError, Value
from fairstep.runs.ledger import SEARCHES, Cell, Choice, Ledger, Phase, Trial
from fairstep.runs.machine import Machine, machine
from fairstep.runs.model_spec import ModelSpec
from fairstep.runs.run import Run, Spec, Status, Summary
from fairstep.runs.schedule import DecayShape, Ramp, ScheduleKind, ScheduleSpec, learning_rate_fraction
from fairstep.runs.spec import AnyModelSpec, EvaluationSpec, Execution, OptimizerChoice, RunSpec
from fairstep.runs.store import Store, StoreError

__all__ = [
    "SEARCHES",
    "AnyModelSpec",
    "Cell",
    "Certificate",
    "Choice",
    "CommandSpec",
    "DataSpec",
    "DecayShape",
    "Design",
    "EvaluationSpec",
    "Execution",
    "ForeignModelSpec",
    "Ledger",
    "Look",
    "LossSource",
    "Machine",
    "ModelFacts",
    "ModelSpec",
    "OptimizerChoice",
    "Phase",
    "Ramp",
    "Run",
    "RunSpec",
    "ScheduleKind",
    "ScheduleSpec",
    "Spec",
    "SpecError",
    "Status",
    "Store",
    "StoreError",
    "Summary",
    "Trainer",
    "Trial",
    "Value",
    "learning_rate_fraction",
    "machine",
    "open_own",
    "read_json",
    "to_disk",
    "write_atomic",
]
