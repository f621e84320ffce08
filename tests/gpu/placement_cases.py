"""Everything keeps to the device of the parameters: optimizers, models, signals, the trainer's batches and evaluation.

On a pretended device, so that no driver is needed. Its numbers are the processor's own, which the results must equal.
``test_placement.py`` runs these cases in processes of their own, because the device stays known to torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.gpu.pretended import NAME, Elsewhere, pretended
from tests.model.test_architectures import CONFIGS
from tests.optim.conftest import TinyModel
from tests.optim.supply import noise
from tests.training import cache, corpus, tiny
from torch import Tensor, nn

from fairstep import optim
from fairstep.model import build
from fairstep.optim.engine.signals import in_form
from fairstep.optim.wrappers import wrappers
from fairstep.runs import OptimizerChoice, RunSpec
from fairstep.train.step import Trainer

__all__ = ["cache", "corpus", "tiny"]

CPU = torch.device("cpu")
NAMES = [*optim.names(), *(f"adamw+{wrapper}" for wrapper in wrappers())]

TRAINED: dict[str, dict[str, Any]] = {
    "adamw": {},
    "sophia-g": {"interval": 1},
    "sophia-h": {"interval": 1},
    "mars-adamw": {"form": "exact"},
    "schedule-free-adamw": {},
    "prodigy": {},
    "soap": {},
}
"""With every signal in every step, evaluation weights, shared numbers."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def device() -> Iterator[torch.device]:
    with pretended() as place:
        yield place


def model_on(device: torch.device, dtype: torch.dtype = torch.float32) -> TinyModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TinyModel().to(dtype).to(device)


def optimizer_of(name: str, model: nn.Module, **settings: Any) -> Any:
    """With products in float32: auto is bfloat16 on an accelerator."""
    return optim.build(name, model, **dict.fromkeys(optim.get(name).product_dtypes, "float32"), **settings)


def step(optimizer: Any, count: int) -> None:
    """Steps on noise, with what signals are due."""
    parameters = dict(optimizer.named_parameters())
    for _ in range(count):
        for name, p in parameters.items():
            taken = optimizer.state[p].get("step", 0)
            p.grad = noise("gradient", name, taken, p.shape).to(p.dtype).to(p.device)
        for signal, names in optimizer.due().items():
            values = {n: noise(signal, n, 0, parameters[n].shape).to(parameters[n].device) for n in names}
            optimizer.supply(signal, in_form(signal, values))
        optimizer.step()


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from tensors(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from tensors(one)


def assert_there(found: Iterable[Tensor]) -> None:
    assert all(x.device.type == NAME for x in found)


def here(x: Tensor) -> Tensor:
    assert isinstance(x, Elsewhere)
    return x.here


def assert_equal(there: nn.Module, on_cpu: nn.Module) -> None:
    for (name, p), q in zip(there.named_parameters(), on_cpu.parameters(), strict=True):
        assert torch.equal(here(p), q), name


def test_the_device_refuses_what_cuda_refuses(device: torch.device) -> None:
    x, stray = torch.randn(2, 3).to(device), torch.randn(2, 3)
    for mixed in (lambda: x + stray, lambda: torch.cat([x, stray]), lambda: torch.where(stray > 0, x, x)):
        with pytest.raises(RuntimeError, match="on the processor among tensors on the device"):
            mixed()
    with pytest.raises(RuntimeError, match="a generator on the processor"):
        x.normal_(generator=torch.Generator().manual_seed(0))
    with pytest.raises(RuntimeError, match="a generator on the processor"):
        torch.randn(2, device=device, generator=torch.Generator().manual_seed(0))
    x.normal_(generator=torch.Generator(device).manual_seed(0))
    assert (x + torch.tensor(1.0)).device == device, "a number may come from the processor"
    assert x.cpu().device == CPU
    assert torch.empty_like(x).device == torch.zeros(2, device=device).device == device


@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_keeps_to_the_device(name: str, device: torch.device) -> None:
    """Two steps, a saved state that is loaded, one more; evaluation weights and back."""
    there, on_cpu = model_on(device), model_on(CPU)
    optimizer, reference = optimizer_of(name, there), optimizer_of(name, on_cpu)
    for one in (optimizer, reference):
        step(one, 2)
    assert_there(tensors(optimizer.state_dict()["state"]))
    assert_equal(there, on_cpu)
    saved = {n: x.cpu() for n, x in there.state_dict().items()}, to_cpu(optimizer.state_dict())
    other = model_on(device)
    other.load_state_dict({n: x.to(device) for n, x in saved[0].items()})
    resumed = optimizer_of(name, other)
    resumed.load_state_dict(saved[1])
    for one in (resumed, reference):
        step(one, 1)
    assert_there(tensors(resumed.state_dict()["state"]))
    assert_equal(other, on_cpu)
    for one in (resumed, reference):
        one.eval()
    assert_equal(other, on_cpu)
    for one in (resumed, reference):
        one.train()
    assert_equal(other, on_cpu)


def to_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {key: to_cpu(one) for key, one in value.items()}
    return [to_cpu(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", ["adamw", "lion", "muon", "soap"])
@pytest.mark.parametrize("stacked", [True, False])
def test_stochastic_rounding_draws_on_the_device(name: str, stacked: bool, device: torch.device) -> None:
    there, on_cpu = model_on(device, torch.bfloat16), model_on(CPU, torch.bfloat16)
    for model in (there, on_cpu):
        step(optimizer_of(name, model, rounding="stochastic", stacked=stacked), 2)
    assert_equal(there, on_cpu)


def test_muons_products_are_in_bfloat16_on_a_device(device: torch.device) -> None:
    x = torch.randn(2, 8, 12)
    from fairstep.optim.maths.newton_schulz import newton_schulz

    assert torch.equal(here(newton_schulz(x.to(device))), newton_schulz(x, dtype="bfloat16"))


def test_scions_first_weights_are_put_on_the_device(device: torch.device) -> None:
    from fairstep.optim.rules.scion import initialise

    there, on_cpu = model_on(device), model_on(CPU)
    for model in (there, on_cpu):
        initialise(optim.build("scion", model), 3)
    assert_equal(there, on_cpu)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_keeps_to_the_device(name: str, device: torch.device) -> None:
    """The loss in training and evaluation, its gradients, and the logits."""
    config = CONFIGS[name]
    tokens = torch.randint(0, config.vocabulary, (3, config.context), generator=torch.Generator().manual_seed(1))
    losses, gradients = [], []
    for place in (device, CPU):
        torch.manual_seed(0)
        model = build(config).to(place)
        x = tokens.to(place)
        loss = model(x, x)
        loss.backward()
        model.eval()
        found = loss, model(x, x), model.logits(x).float().sum()
        if place == device:
            assert_there([*found, *(p.grad for p in model.parameters() if p.grad is not None), *model.buffers()])
        losses.append([value.item() for value in found])
        gradients.append([p.grad.cpu() for p in model.parameters() if p.grad is not None])
    # Attention is written out on a processor and torch's own elsewhere: not to the bit.
    assert losses[0] == pytest.approx(losses[1], rel=1e-4, abs=1e-3)
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


@contextlib.contextmanager
def on(spec: RunSpec, device: torch.device) -> Iterator[Trainer]:
    execution = spec.execution.model_copy(update={"device": str(device)})
    yield Trainer(spec.model_copy(update={"execution": execution}))


@pytest.mark.parametrize(
    "name", ["adamw", "sophia-g", "sophia-h", "mars-adamw", "schedule-free-adamw", "prodigy", "soap"]
)
def test_the_trainer_keeps_to_the_device(name: str, device: torch.device, tiny: Any, tmp_path: Path) -> None:
    """Batches, signals, clipping, the step, sizes of updates, evaluation, and the state of a checkpoint."""
    settings = {"lr": optim.get(name).search_space["lr"].values[0], **TRAINED[name]}
    chosen = OptimizerChoice(name=name, hyperparameters=optim.get(name).validate(settings))
    spec = tiny().model_copy(update={"optimizer": chosen})
    losses = {}
    for place in (device, CPU):
        with on(spec, place) as trainer:
            assert next(trainer.model.parameters()).device == place
            steps = [trainer.step(number, measure=number == 1)[:2] for number in range(2)]
            losses[place] = [*(value for pair in steps for value in pair), trainer.evaluate(trainer.windows)]
            saved = trainer.state_dict()
            if place == device:
                assert_there([*tensors(saved["model"]), *tensors(saved["optimizer"])])
            trainer.load_state_dict(saved)
            losses[place].append(trainer.step(2)[0])
    assert losses[device] == pytest.approx(losses[CPU], rel=1e-4)
