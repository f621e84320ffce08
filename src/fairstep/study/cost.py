"""What a run costs, before it runs: parameters, FLOPs, memory by part and time, from its RunSpec alone."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from fairstep import optim
from fairstep.model import config_of
from fairstep.model.config import ModelConfig
from fairstep.model.loss import LOGITS_AT_ONCE
from fairstep.model.shapes import Parameter, counts, flops_per_token, parameter_table
from fairstep.runs import RunSpec
from fairstep.study.devices import Device

FLOAT = 4
"""Bytes of a weight, a gradient and a number of optimizer state: all are float32."""
