"""The files of a checkpoint: what other programs make of them, and what is not taken from them."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from fairstep.optim.doctor import examine
from fairstep.optim.engine import Engine
from fairstep.runs import RunSpec
from fairstep.train.checkpoints import files
from fairstep.train.checkpoints.checkpoint import Checkpoints
from fairstep.train.checkpoints.resumption import resume
from fairstep.train.step import Trainer


def trained(spec: RunSpec, steps: int = 3) -> Trainer:
    trainer = Trainer(spec)
    for step in range(steps):
        trainer.step(step)
    return trainer


def written(spec: RunSpec, folder: Path) -> tuple[Trainer, Path]:
    trainer = trained(spec)
    checkpoints = Checkpoints(folder, keep=1)
    checkpoints.save(3, trainer.state_dict(), {"run": "a"})
    return trainer, *checkpoints.paths()  # type: ignore[return-value]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize("name", ["soap", "torch.optim:Adam"])
def test_torch_makes_a_plain_state_dict_of_a_checkpoint(name: str, tiny: Any, tmp_path: Path) -> None:
    trainer, place = written(tiny(name), tmp_path)
    dcp_to_torch_save(place, tmp_path / "plain.pt")
    plain = torch.load(tmp_path / "plain.pt", weights_only=True)
    fresh = Trainer(tiny(name))
    fresh.model.load_state_dict(plain["model"], strict=False)
    assert plain["model"].keys() == dict(trainer.model.named_parameters()).keys()
    assert same(fresh.model.state_dict(), trainer.model.state_dict())
    assert plain["optimizer"]["state"].keys() == plain["model"].keys()
    if isinstance(fresh.optimizer, Engine):
        fresh.optimizer.load_state_dict(plain["optimizer"])
        assert same(fresh.optimizer.state_dict(), trainer.optimizer.state_dict())


class Odd(torch.optim.Optimizer):
    """State that is no tensor, in all shapes."""

    def __init__(self, params: Any, lr: float = 0.1, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state[p]
                    state["count"] = state.get("count", 0) + 1
                    state.setdefault("factors", [p.grad.clone(), {3: p.grad.mean()}])
                    state["pair"], state["nothing"], state["flag"] = (1, 2.5), None, True
                    p.sub_(group["lr"] * p.grad)


class Elsewhere(torch.optim.SGD):
    """State of no parameter: under words and numbers in ``state``, and an attribute that its state dict carries."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr=lr)
        self.total = torch.zeros(())

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        norm = sum(p.grad.norm() for group in self.param_groups for p in group["params"])
        self.total += norm
        self.state["norms"] = torch.stack([norm, self.state.get("norms", torch.zeros(2))[0]])  # type: ignore[index]
        self.state["counts"] = {1: 2, "steps": self.state.get("counts", {"steps": 0})["steps"] + 1}  # type: ignore
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p][7] = torch.ones(2)  # a key that is no word
                p.sub_(p.grad, alpha=group["lr"] / float(1 + self.total + self.state["norms"][1]))  # type: ignore

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"total": self.total, "optimizer": "its own word", "further": [1]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.total = state_dict["total"].clone()
        super().load_state_dict({key: state_dict[key] for key in ("state", "param_groups")})


class SlowWeights(torch.optim.SGD):
    """Lookahead-like: a second state by number beside ``state``, with groups of its own."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr=lr, momentum=0.9)
        self.slow = [p.detach().clone() for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        super().step()
        for p, slow in zip((p for group in self.param_groups for p in group["params"]), self.slow, strict=True):
            slow.lerp_(p, 0.5)
            p.lerp_(slow, 0.1)

    def state_dict(self) -> dict[str, Any]:
        slow = {number: {"slow": tensor} for number, tensor in enumerate(self.slow)}
        return super().state_dict() | {"slow_state": slow, "slow_groups": [{"alpha": 0.5, "params": [0, 1]}]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        assert state_dict["slow_groups"][0]["params"] == [0, 1]
        self.slow = [entry["slow"].clone() for _, entry in sorted(state_dict["slow_state"].items())]
        super().load_state_dict({key: state_dict[key] for key in ("state", "param_groups")})


class Wrapping(torch.optim.SGD):
    """Its state dict is of its own making."""

    def state_dict(self) -> dict[str, Any]:
        return {"base": super().state_dict(), "count": 3}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict["base"])


FOREIGN = ["Odd", "Elsewhere", "SlowWeights", "Wrapping"]


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("name", FOREIGN)
def test_state_of_any_kind_comes_back_as_it_was(name: str, asynchronous: bool, tiny: Any, tmp_path: Path) -> None:
    spec = tiny(f"{__name__}:{name}")
    trainer, checkpoints = trained(spec), Checkpoints(tmp_path, 1, asynchronous)
    checkpoints.save(3, trainer.state_dict(), {"run": "a"})
    checkpoints.wait()
    fresh = trained(spec, steps=1)
    fresh.load_state_dict(checkpoints.load(*checkpoints.paths(), fresh.allocate_like))
    assert same(fresh.optimizer.state_dict(), trainer.optimizer.state_dict())
    assert same(dict(fresh.model.state_dict()), dict(trainer.model.state_dict()))


@pytest.mark.parametrize("name", FOREIGN)
def test_the_doctor_goes_through_the_files_of_a_checkpoint(name: str) -> None:
    findings = {finding.check: finding for finding in examine(f"{__name__}:{name}", resume=resume)}
    assert findings["resumes"].status == "passed", findings["resumes"].message


def test_the_doctor_finds_what_only_a_checkpoint_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SlowWeights, "load_state_dict", torch.optim.SGD.load_state_dict)
    findings = {finding.check: finding for finding in examine(f"{__name__}:SlowWeights", resume=resume)}
    assert findings["resumes"].status == "failed" and findings["resumes"].needed


class Intruder:
    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["INTRUDED"],)


def test_no_more_than_tensors_and_plain_values_is_unpickled(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTRUDED", str(tmp_path / "intruded"))
    trainer = Trainer(tiny())
    files.write(tmp_path / "step-00000001", {"model": {"weight": (Intruder(),)}}, {}, None)
    with pytest.raises(ValueError, match=r"has a model\.weight that is more than plain values"):
        files.fill(tmp_path / "step-00000001", {"model": {"weight": None}}, None)
    (tmp_path / "step-00000001" / ".metadata").write_bytes(pickle.dumps(Intruder()))
    with pytest.raises(ValueError, match=r"metadata asks for posix\.mkdir, which is not of it"):
        Checkpoints(tmp_path, keep=1).load(tmp_path / "step-00000001", trainer.allocate_like)
    assert not (tmp_path / "intruded").exists()


def test_a_checkpoint_of_another_model_or_optimizer_is_told_so(tiny: Any, tmp_path: Path) -> None:
    _, place = written(tiny("adamw"), tmp_path)
    checkpoints = Checkpoints(tmp_path, keep=1)
    spec = tiny("adamw")
    wider = spec.model_copy(update={"model": spec.model.model_copy(update={"mlp_width": 48})})
    deeper = spec.model_copy(update={"model": spec.model.model_copy(update={"layers": 2})})
    with pytest.raises(ValueError, match=r"another model: it has a blocks\.0\S+ of shape \(\d+, \d+\), and this"):
        checkpoints.load(place, Trainer(wider).allocate_like)
    with pytest.raises(ValueError, match=r"of another model: it has no blocks\.1\S+, and this one has \("):
        checkpoints.load(place, Trainer(deeper).allocate_like)
    other = Trainer(tiny("muon"))
    with pytest.raises(ValueError, match="this is a state dict of adamw, which muon cannot load"):
        other.load_state_dict(checkpoints.load(place, other.allocate_like))
    foreign = Trainer(tiny("torch.optim:SGD"))
    with pytest.raises(ValueError, match=r"this is the state of adamw, which torch\.optim:SGD cannot load"):
        foreign.load_state_dict(checkpoints.load(place, foreign.allocate_like))


@pytest.mark.parametrize("asynchronous", [False, True])
def test_only_the_newest_are_kept_and_what_could_not_be_used_goes(asynchronous: bool, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, 2, asynchronous)
    for step in (10, 20, 30, 15):  # the run went on from 10, because the later two were damaged
        checkpoints.save(step, {"w": torch.ones(2) * step}, {"run": "a"})
    checkpoints.wait()
    assert [path.name for path in checkpoints.paths()] == ["step-00000015"]
    checkpoints.save(15, {"w": torch.zeros(2)}, {"run": "a"})  # in its place
    checkpoints.wait()
    (tmp_path / "step-00000016.unfinished").mkdir()  # of a killed process
    notes: list[str] = []
    found = checkpoints.newest(lambda facts: None, notes)
    assert found is not None
    assert (found[1]["run"], found[1]["step"], notes) == ("a", 15, [])
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000015"]
    checkpoints.clear()
    assert not tmp_path.exists()


def test_what_is_written_later_is_what_was_there(tmp_path: Path) -> None:
    checkpoints, weight = Checkpoints(tmp_path, 2, asynchronous=True), torch.ones(1000)
    checkpoints.save(1, {"w": weight}, {})
    weight.zero_()
    checkpoints.wait()
    read = checkpoints.load(tmp_path / "step-00000001", lambda saved: {"w": torch.empty(1000)})
    assert read["w"].sum() == 1000


LOADING = """
import sys, threading
elsewhere = []
class Watch:
    @staticmethod
    def find_spec(name, *_):
        if threading.current_thread() is not threading.main_thread():
            elsewhere.append(name)
sys.meta_path.insert(0, Watch)
import torch
from pathlib import Path
from fairstep.train.checkpoints.checkpoint import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]), 2, asynchronous=True)
checkpoints.save(1, {"w": torch.ones(10)}, {})
checkpoints.wait()
print(*(name for name in elsewhere if name.startswith(("fairstep", "torch.distributed", "torch._dynamo"))))
"""


def test_the_thread_that_writes_loads_no_module_that_a_step_reads(tmp_path: Path) -> None:
    """A step that met ``torch.distributed.tensor`` half loaded ended in an AttributeError."""
    done = subprocess.run([sys.executable, "-c", LOADING, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
    assert (tmp_path / "step-00000001").is_dir()


def test_a_limit_of_the_system_is_said_and_leaves_the_one_before(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, 2)
    checkpoints.save(1, {"w": torch.ones(10)}, {})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        with pytest.raises(OSError) as error:
            checkpoints.save(2, {"w": torch.ones(1_000_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert error.value.errno == errno.EFBIG
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_the_checksums_are_those_of_sha256sum(tmp_path: Path) -> None:
    import subprocess

    Checkpoints(tmp_path, 2).save(1, {"w": torch.ones(10)}, {"run": "a"})
    place = tmp_path / "step-00000001"
    facts = json.loads((place / "checkpoint.json").read_text())
    lines = "".join(f"{digest}  {name}\n" for name, digest in facts["checksums"].items())
    subprocess.run(["sha256sum", "--check", "--strict"], input=lines, cwd=place, text=True, check=True)
    assert facts["checksums"].keys() | {"checkpoint.json"} == {path.name for path in place.iterdir()}


def test_metadata_of_early_python_3_11_is_read() -> None:
    """Python 3.11.0 to 3.11.3 write a member of an enumeration as getattr(class, name)."""
    from torch.distributed.checkpoint.metadata import _MEM_FORMAT_ENCODING as ENCODING

    from fairstep.train.checkpoints.files import _Plain

    class Asks:
        def __init__(self, *of: object) -> None:
            self.of = of

        def __reduce__(self) -> tuple[object, ...]:
            return (getattr, self.of)

    member = pickle.dumps(Asks(ENCODING, "TORCH_CONTIGUOUS_FORMAT"))
    assert _Plain(io.BytesIO(member)).load() is ENCODING.TORCH_CONTIGUOUS_FORMAT
    for other in (Asks(ENCODING, "__init__"), Asks(torch.Size, "mro")):
        with pytest.raises(ValueError, match="which is not of it"):
            _Plain(io.BytesIO(pickle.dumps(other))).load()
