"""The doctor: conformance checks on any optimizer, ours or anyone's, before any compute is spent on it.

What may not go in: training, and anything of our other rooms.
"""

from fairstep.optim.doctor.checks import CHECKS, Check
from fairstep.optim.doctor.examine import Finding, examine, fit, run_check
from fairstep.optim.doctor.subject import Subject
from fairstep.optim.doctor.table import routing_table

__all__ = ["CHECKS", "Check", "Finding", "Subject", "examine", "fit", "routing_table", "run_check"]
