"""Anyone's optimizer: found by its path, described by its signature, built with our groups, checked by the doctor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fairstep import optim
from fairstep.optim.catalogue import foreign, registry
from fairstep.optim.catalogue.provenance import version_of
from fairstep.optim.doctor import examine, fit

SGD, ADAM = "torch.optim:SGD", "torch.optim:Adam"


class Broken(torch.optim.Optimizer):
    """Correct gradient descent with heavy-ball momentum, but for what ``fault`` names."""

    def __init__(self, params: Any, lr: float = 0.05, weight_decay: float = 0.0, fault: str = "none") -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.fault, self.lr, self.count = fault, lr, 0
        self.hidden: dict[int, Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() if self.fault == "copy" else {**self.__dict__}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        if self.fault == "closure" and closure is None:
            raise RuntimeError("requires closure")
        self.count += 1
        for index, group in enumerate(self.param_groups):
            for p in group["params"]:
                if self.fault == "skips" and p.ndim == 1:
                    continue
                if p.grad is None and self.fault != "none_gradient":
                    continue
                g = torch.ones_like(p) if p.grad is None else p.grad
                self._move(p, g, self.lr if self.fault in ("fixed_lr", "first_lr") else group["lr"], index)

    def _move(self, p: Tensor, g: Tensor, lr: float, index: int) -> None:
        kept = {"m": self.hidden.setdefault(id(p), torch.zeros_like(p))} if self.fault == "hidden" else self.state[p]
        m = kept.setdefault("m", torch.zeros_like(p)).mul_(0.5).add_(g)
        if self.fault == "gradient":
            g.mul_(2)
        if self.fault == "nan" and not torch.isfinite(g).all():
            raise FloatingPointError("not finite")
        if self.fault == "scalar" and p.ndim == 0:
            raise IndexError("tuple index out of range")
        if self.fault == "object":
            self.state[p]["path"] = Path("x")
        if self.fault == "random":
            m = m + 1e-3 * torch.randn(m.shape, generator=_GENERATOR)
        p.add_(m, alpha=lr if self.fault == "sign" else -lr)


_GENERATOR = torch.Generator()

FAULTS = {
    "closure": ("takes_a_step", "its step needs a closure"),
    "skips": ("takes_a_step", "did not move in 12 steps"),
    "sign": ("decreases_a_quadratic", "the sign or the size of the step is wrong"),
    "fixed_lr": ("follows_the_learning_rate", "goes 1.00 times as far"),
    "hidden": ("resumes", "load_state_dict must keep everything that step() reads"),
    "random": ("is_deterministic", "draw random numbers from torch's generator"),
    "object": ("is_saved_plainly", "torch.load(weights_only=True) refuses"),
    "nan": ("survives_divergence", "divergence is a result"),
    "scalar": ("handles_vectors_and_scalars", "IndexError: tuple index out of range"),
    "gradient": ("leaves_gradients", "step() changes the gradient of"),
    "none_gradient": ("waits_for_gradients", "whose gradient is None"),
    "copy": ("is_copied", "define __getstate__"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_doctor_names_the_fault(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "broken", sys.modules[__name__])
    check, words = FAULTS[fault]
    found = {finding.check: finding for finding in examine("broken:Broken", {"fault": fault})}
    assert found[check].status == "failed" and words in found[check].message
    if fault in ("gradient", "copy", "scalar", "none_gradient", "object"):
        assert fit(list(found.values())), "works in our loop all the same"
    else:
        assert not fit(list(found.values()))


def test_the_doctor_finds_nothing_wrong_where_nothing_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "broken", sys.modules[__name__])
    state = torch.get_rng_state()
    for name in ("broken:Broken", SGD, ADAM, "torch.optim:RMSprop"):
        assert [(f.check, f.message) for f in examine(name) if f.status != "passed"] == []
    assert torch.equal(torch.get_rng_state(), state), "asking changes nothing"


def test_a_signature_becomes_a_spec() -> None:
    spec = optim.get(ADAM)
    assert (spec.name, spec.class_name, spec.lr_unit) == (ADAM, "Adam", "not known")
    assert {"lr", "beta1", "beta2", "eps", "weight_decay", "amsgrad"} <= set(spec.hyperparameters)
    assert spec.hyperparameters["beta2"].default == 0.999
    assert spec.version == f"torch {torch.__version__.partition('+')[0]}"
    assert spec.search_space["lr"].values == (0.0005, 0.001, 0.002)
    assert spec.validate({"lr": 0.1, "betas": [0.8, 0.9]})["beta1"] == 0.8
    assert optim.get(ADAM) is spec
    assert "Adam" in spec.text
    with pytest.raises(ValueError, match=r"cost of a step of torch.optim:Adam is not known"):
        spec.flops(4, 4)


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"lr": -1.0}, r"torch.optim:Adam cannot be built: ValueError: Invalid learning rate: -1.0"),
        ({"lr": "much"}, "lr must be a finite number, not 'much'"),
        ({"lr": float("nan")}, "lr must be a finite number, not nan"),
        ({"amsgrad": 1}, "amsgrad must be true or false, not 1"),
        ({"beta3": 0.9}, r"has no argument 'beta3' \(did you mean beta. or beta.\?\); it has lr, beta1"),
        ({"betas": 0.9}, "betas takes 2 numbers in a list, not 0.9"),
    ],
)
def test_bad_hyperparameters(hyper: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        optim.get(ADAM).validate(hyper)
    assert "\n" not in str(caught.value)


def test_it_gets_the_groups_that_ours_get() -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(8, 4), "up": nn.Linear(4, 6), "head": nn.Linear(4, 8, bias=False)})
    optimizer = optim.build(ADAM, model, lr=0.1, weight_decay=0.2)
    assert type(optimizer) is torch.optim.Adam
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    ours = optim.build("adamw", model, lr=0.1, weight_decay=0.2)
    assert decays == {id(p): group["weight_decay"] for group in ours.param_groups for p in group["params"]}
    assert len(optim.build(ADAM, model).param_groups) == 1, "nothing to tell apart without weight decay"
    own = [{"params": list(model.parameters()), "lr": 0.5}]
    assert optim.build(ADAM, own).param_groups[0]["lr"] == 0.5


def test_it_steps_as_the_class_itself() -> None:
    ours, theirs = nn.Linear(3, 4), nn.Linear(3, 4)
    theirs.load_state_dict(ours.state_dict())
    one = optim.build(SGD, ours, lr=0.1, momentum=0.9)
    two = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        for model, optimizer in ((ours, one), (theirs, two)):
            for p in model.parameters():
                p.grad = p.detach() + 1
            optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert optim.state_bytes(one) == 4 * (12 + 4)


def test_a_file_in_the_current_folder_is_known_by_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "import torch\n\nclass Mine(torch.optim.SGD):\n    '''My own.'''\n"
    (tmp_path / "my_optimizers.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    spec = optim.get("my_optimizers:Mine")
    assert spec.version.startswith("my_optimizers, source ")
    assert optim.version("my_optimizers:Mine") == spec.version and optim.version("adamw") == ""
    optim.check_version("my_optimizers:Mine", spec.version)
    with pytest.raises(ValueError, match="this run is of my_optimizers:Mine in my_optimizers, source 0"):
        optim.check_version("my_optimizers:Mine", "my_optimizers, source 0")
    (tmp_path / "my_optimizers.py").write_text(source + "# changed\n")
    version_of.cache_clear()
    assert version_of("my_optimizers") != spec.version
    del sys.modules["my_optimizers"]


def test_a_package_without_init_is_known_by_its_folder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What else of its name lies on sys.path, and what `__path__` holds by then, differs from process to process."""
    for name, module in (("here", "bare_pack/opt.py"), ("there", "bare_pack/other.py")):
        (tmp_path / name / module).parent.mkdir(parents=True)
        (tmp_path / name / module).write_text("import torch\n\n\nclass Mine(torch.optim.SGD):\n    pass\n")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    version = optim.version("bare_pack.opt:Mine")
    for path in ([], [str(tmp_path / "there" / "bare_pack")], [str(tmp_path / "here" / "bare_pack")] * 2):
        monkeypatch.setattr(sys.modules["bare_pack"], "__path__", path)
        version_of.cache_clear()
        assert version_of("bare_pack.opt") == version
    for name in ("bare_pack", "bare_pack.opt"):
        monkeypatch.delitem(sys.modules, name)


def test_a_spec_of_ones_own_and_a_short_name(monkeypatch: pytest.MonkeyPatch) -> None:
    found = optim.get("fairstep.optim.rules.lion:LION")
    assert found.name == "fairstep.optim.rules.lion:LION" and found.version
    assert optim.build(found.name, nn.Linear(2, 2)).spec is found
    monkeypatch.setattr(registry, "plugins", lambda: {"mine": SGD})
    assert optim.get("mine").name == "mine" and optim.get("mine").title == "SGD"
    foreign.describe.cache_clear()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:Mine", "there is no module 'no_such_module' in the installed packages or the current folder"),
        ("torch.optim:Addam", r"torch.optim has no 'Addam' \(did you mean Adam or "),
        ("torch.nn:Linear", "is the class Linear, and no subclass of torch.optim.Optimizer"),
        ("torch:add", "and no subclass of torch.optim.Optimizer"),
        ("torch.optim:LBFGS", "needs a closure"),
        (":Mine", "is package.module:Class, not ':Mine'"),
        ("torch.optim:SGD+ema", "wrappers go around fairstep's own optimizers"),
    ],
)
def test_what_is_no_optimizer(name: str, message: str) -> None:
    with pytest.raises(optim.UnknownOptimizerError, match=message):
        optim.get(name)


class Decaying(torch.optim.Optimizer):
    """Gradient descent with decoupled weight decay under a name of its own; subclasses have other signatures."""

    def __init__(self, params: Any, lr: float = 0.05, wd: float = 0.1) -> None:
        super().__init__(params, {"lr": lr, "wd": wd})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - group["lr"] * group["wd"]).sub_(p.grad, alpha=group["lr"])


class Shrinking(Decaying):
    def __init__(self, params: Any, lr: float = 0.05, shrinkage: float = 0.1) -> None:
        super().__init__(params, lr, shrinkage)


class RateFirst(Decaying):
    def __init__(self, lr: float = 0.05, params: Any = None, wd: float = 0.1) -> None:
        super().__init__(params, lr, wd)


class NoRate(Decaying):
    def __init__(self, params: Any, lr: float | None = None, relative_step: bool = True) -> None:
        if lr is not None and relative_step:
            raise ValueError("lr together with relative_step")
        super().__init__(params, lr or 0.01, 0.0)


class NoDefaults(Decaying):
    def __init__(self, params: Any, lr: float, rank: int, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr, weight_decay)


class NamedOnly(Decaying):
    def __init__(self, named_params: Any, lr: float = 0.05, wd: float = 0.0) -> None:
        super().__init__([p for name, p in named_params if name], lr, wd)


class Unpacking(Decaying):
    def __init__(self, params: Any, lr: float = 0.05, wd: float = 0.0) -> None:
        super().__init__([p for _, p in params], lr, wd)


class Chatty(Decaying):
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        print("a step")
        super().step()


class Leaving(Decaying):
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        raise SystemExit("bye")


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mine", sys.modules[__name__])


def failed(name: str, **hyper: Any) -> dict[str, str]:
    return {finding.check: finding.message for finding in examine(name, hyper) if finding.status == "failed"}


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("name", ["mine:Decaying", "mine:RateFirst"])
def test_weight_decay_is_known_by_its_usual_names(name: str) -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(8, 4), "up": nn.Linear(4, 6), "head": nn.Linear(4, 8)})
    decays = [(len(group["params"]), group["wd"]) for group in optim.build(name, model, wd=0.3).param_groups]
    assert decays == [(2, 0.3), (3, 0.0)]
    assert failed(name) == {}


@pytest.mark.usefixtures("mine")
def test_weight_decay_of_norms_is_said_where_nothing_tells_its_name() -> None:
    assert "it decays embedding.weight" in failed("mine:Shrinking")["decays_matrices_alone"]
    assert failed("mine:Shrinking", shrinkage=0.0) == {}


@pytest.mark.usefixtures("mine")
def test_a_class_without_a_learning_rate_is_given_one() -> None:
    for name in ("mine:NoRate", "mine:NoDefaults"):
        spec = optim.get(name)
        assert "lr" in spec.hyperparameters and not spec.search_space
        with pytest.raises(ValueError, match=r"has no learning rate of its own; give one: --lr in train"):
            list(examine(name))
    with pytest.raises(ValueError, match="ValueError: lr together with relative_step"):
        optim.get("mine:NoRate").validate({"lr": 0.1})
    assert failed("mine:NoRate", lr=0.1, relative_step=False) == {}
    with pytest.raises(ValueError, match="cannot be built without a value for rank; give one with --set, such as"):
        optim.get("mine:NoDefaults").validate({"lr": 0.1})
    assert failed("mine:NoDefaults", lr=0.1, rank=4) == {}
    assert optim.build("mine:NoDefaults", nn.Linear(2, 2), lr=0.1, rank=4).param_groups[0]["lr"] == 0.1


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("name", ["mine:NamedOnly", "mine:Unpacking"])
def test_a_class_that_wants_names_gets_pairs(name: str) -> None:
    assert len(optim.build(name, nn.Linear(2, 2)).param_groups[0]["params"]) == 2
    findings = list(examine(name))
    assert [f.check for f in findings if f.status != "passed"] == ["takes_parameter_groups"] and fit(findings)


@pytest.mark.usefixtures("mine")
def test_what_it_prints_and_its_exit_do_not_end_the_examination(capsys: pytest.CaptureFixture[str]) -> None:
    assert failed("mine:Chatty") == {}
    said = capsys.readouterr()
    assert not said.out and "a step" in said.err
    assert "SystemExit: bye" in failed("mine:Leaving")["takes_a_step"]


@pytest.mark.parametrize(
    "path",
    ["pack.opt:Mine", "pack.opt.Mine", "pack/opt.py:Mine", "./pack/opt.py:Mine", "pack/opt:Mine", "a-1=pack.opt:Mine"],
)
def test_a_path_in_every_habit(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, monkeypatch)
    assert optim.get(path).name == "pack.opt:Mine"
    assert optim.get(str(tmp_path / "pack" / "opt.py") + ":Mine").name == "pack.opt:Mine"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("pack.opt", r"pack.opt is a module; name its class too, such as pack.opt:Mine"),
        ("pack:opt", r"pack.opt is a module; name its class too, such as pack.opt:Mine"),
        ("pack.opt:Mein", r"pack.opt has no 'Mein' \(did you mean Mine"),
        ("pack.opt:X", r"pack.opt has no 'X'; it has Mine"),
        ("pack/nothing.py:Mine", r"not 'pack/nothing.py:Mine'; there is no file pack/nothing.py"),
        ("nothing.py:Mine", r"there is no file nothing.py"),
        ("nothing.here.Mine", r"unknown optimizer 'nothing.here.Mine'.*and your own as package.module:Class"),
        ("pack/opt.py", r"^pack/opt.py is a file; name its class too, such as pack/opt.py:Mine$"),
        ("mine=pack/opt.py", r"^pack/opt.py is a file; name its class too, such as pack/opt.py:Mine$"),
        ("nothing.py", r"^there is no file nothing.py$"),
        ("pack", r"^pack is a module; name its class too, such as pack:Class$"),
        ("json", r"unknown optimizer 'json'"),
        ("a b=pack.opt:Mine", r"an alias is a word, as in mine=package.module:Class"),
    ],
)
def test_what_a_wrong_path_should_be(path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, monkeypatch)
    with pytest.raises(optim.UnknownOptimizerError, match=message):
        optim.get(path)


def test_a_module_without_its_class_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "raise SystemExit('training')\nclass Helper: ...\nclass Mine(Optimizer): ...\n"
    (tmp_path / "mine_alone.py").write_text(text)
    for name in ("mine_alone", "mine_alone.py"):
        with pytest.raises(optim.UnknownOptimizerError, match=rf"^{name} is a .*, such as {name}:Mine$"):
            optim.get(name)


def test_a_file_elsewhere_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, monkeypatch)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(optim.UnknownOptimizerError, match=r"is not in the current folder: go to its folder"):
        optim.get("../pack/opt.py:Mine")


def package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "pack").mkdir()
    (folder / "pack" / "__init__.py").touch()
    (folder / "pack" / "opt.py").write_text("import torch\n\n\nclass Mine(torch.optim.SGD):\n    pass\n")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    for name in ("pack", "pack.opt"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    foreign.describe.cache_clear()
    version_of.cache_clear()
