"""Anybody's model in our trainer: runs, resumes to the byte, several processes in every mode, export, costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.model import own
from tests.train.interruption import TOKENS, execution, interrupted, same_files
from tests.train.test_parallel import curve, processes

from fairstep.cost import cost, device
from fairstep.model import ForeignPreset, named
from fairstep.model.factory import build
from fairstep.runs import Execution, ForeignModelSpec, RunSpec, Store
from fairstep.train import train
from fairstep.train.export import export_hf

pytestmark = pytest.mark.slow


def model(name: str) -> ForeignModelSpec:
    size = named(f"{own.__file__}:{name}", 16)
    assert isinstance(size, ForeignPreset)
    return size.config(300)


@pytest.mark.parametrize("name", ["build", "loss", "both", "tied", "with_roles", "counting"])
def test_a_run_learns_and_its_summary_counts_what_was_planned(name: str, tiny: Any, tmp_path: Path) -> None:
    spec = tiny("muon", lr=0.02, model=model(name), execution=Execution(threads=1, compile=False, save_weights=True))
    run = train(spec, Store(tmp_path))
    assert run.summary is not None and run.summary.final_loss is not None
    assert run.summary.final_loss < 4.5 < 5.7  # ln(300)
    planned = cost(spec, device("h100"))
    assert (run.summary.parameters, run.summary.parameters_matrix) == (
        planned.parameters_total,
        planned.parameters_matrix,
    )
    assert run.summary.state_bytes == planned.memory.state
    weights = load_file(run.directory / "weights.safetensors")
    module = getattr(own, name)(300, 16)
    missing, unexpected = module.load_state_dict(weights, strict=False)  # under the module's own names
    assert unexpected == [] and set(missing) <= ({"head.weight"} if name == "tied" else set())
    with pytest.raises(ValueError, match=f"Transformers has no model like own.py:{name}"):
        export_hf(run, tmp_path / "out")


def test_a_model_without_a_matrix_is_for_optimizers_with_one_rule(tiny: Any, tmp_path: Path) -> None:
    for name in ("adamw", "lion", "prodigy"):
        spec = tiny(name, model=model("no_matrix"), execution=Execution(threads=1, compile=False))
        run = train(spec, Store(tmp_path))
        assert run.summary is not None and run.summary.status == "done"
        assert run.summary.parameters == run.summary.parameters_matrix == cost(spec, device("h100")).parameters_matrix
    for name in ("muon", "soap", "scion"):
        spec = tiny(name, model=model("no_matrix"), execution=Execution(threads=1, compile=False))
        for wanted in (lambda spec: cost(spec, device("h100")), lambda spec: train(spec, Store(tmp_path))):
            with pytest.raises(
                ValueError, match=rf"^{name} has a rule of its own for matrices, and the model has none"
            ):
                wanted(spec)


def test_a_loss_of_ones_own_is_evaluated_over_whole_sequences(tiny: Any, tmp_path: Path) -> None:
    """62 windows in batches of 8: the last batch is filled up, and what fills it does not count."""
    specs = [tiny(model=model(name), execution=Execution(threads=1, compile=False)) for name in ("build", "loss")]
    one, other = (train(spec, Store(tmp_path)).summary for spec in specs)
    assert one is not None and other is not None
    assert other.final_loss == pytest.approx(one.final_loss, rel=1e-5)


@pytest.mark.parametrize(("name", "optimizer"), [("counting", "soap"), ("both", "sophia-g")])
def test_a_run_resumes_to_the_byte_with_the_buffers_of_the_model(
    name: str, optimizer: str, tiny: Any, tmp_path: Path
) -> None:
    spec = tiny(optimizer, model=model(name), tokens=TOKENS, execution=execution())
    whole = train(spec, Store(tmp_path / "a"))
    store = Store(tmp_path / "b")
    run = interrupted(spec, store)
    same_files(whole, train(spec, store))
    assert len(run.environment["starts"]) == 2


def test_changed_code_does_not_go_on_with_a_run(tiny: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(Path(own.__file__).read_text())
    size = named(f"{file}:build", 16)
    spec = tiny(model=size.config(300), tokens=8 * 16 * 5, schedule={"warmup_steps": 1})
    file.write_text(file.read_text() + "\n# another thought\n")
    with pytest.raises(ValueError, match="changed code is another workload"):
        train(spec, Store(tmp_path / "store"))


@pytest.mark.dist
@pytest.mark.parametrize("mode", ["ddp", "ddp-sharded", "fsdp"])
def test_two_processes_give_the_losses_of_one(mode: str, tiny: Any, tmp_path: Path) -> None:
    def run(name: str, optimizer: str) -> RunSpec:
        how = Execution(threads=1, compile=False, micro_batch_sequences=2, parallel=mode, save_weights=True)  # type: ignore[arg-type]
        return tiny(optimizer, model=model(name), tokens=8 * 16 * 20, execution=how)

    for spec in (run("tied", "muon"), run("both", "sophia-g")):
        train(spec, Store(tmp_path / "one"))
        code, output, _ = processes(spec, tmp_path / "two", 2)
        assert code == 0, output
        assert curve(tmp_path / "two", spec) == pytest.approx(curve(tmp_path / "one", spec), rel=2e-5)
        one, two = (load_file(Store(tmp_path / s).run(spec).directory / "weights.safetensors") for s in ("one", "two"))
        assert one.keys() == two.keys()


def test_a_compiled_model_is_the_model(tiny: Any, tmp_path: Path) -> None:
    """One batch, whose loss compiled is the uncompiled one; the evaluation of a loss of its own goes uncompiled."""
    torch.manual_seed(0)
    plain = build(model("both"))
    tokens = torch.randint(300, (4, 17), generator=torch.Generator().manual_seed(1))
    compiled: Any = torch.compile(plain, backend="aot_eager", dynamic=False)
    assert compiled(tokens[:, :-1], tokens[:, 1:]).item() == pytest.approx(plain(tokens[:, :-1], tokens[:, 1:]).item())
