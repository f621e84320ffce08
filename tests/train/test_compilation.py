"""What is compiled computes what is not compiled, and a compiler that would get it wrong is told from others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fairstep.model import Llama, ModelConfig
from fairstep.train import compilation
from fairstep.train.compilation import can_compile, compile_soundly


def gradients(compiled: bool) -> dict[str, torch.Tensor]:
    """Of a model with heads of 64 elements, whose keys' gradients are transposed in blocks of 32 x 32."""
    torch.manual_seed(0)
    model = Llama(ModelConfig(layers=1, width=64, heads=1, mlp_width=64, vocabulary=64, context=128))
    tokens = torch.randint(0, 64, (2, 129), generator=torch.Generator().manual_seed(1))
    forward = torch.compile(model, dynamic=False) if compiled else model
    with torch.autocast("cpu", torch.bfloat16):
        loss = forward(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
@pytest.mark.skipif(not can_compile("cpu"), reason="needs a C++ compiler")
def test_gradients_of_a_compiled_model_are_those_of_the_plain_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    compile_soundly()
    compiled, plain = gradients(compiled=True), gradients(compiled=False)
    for name, gradient in plain.items():
        assert torch.linalg.norm(compiled[name] - gradient) <= 0.05 * torch.linalg.norm(gradient), name


def gcc(folder: Path, tune: str, avx512: str = "[enabled]", code: int = 0) -> str:
    """A compiler that answers as gcc 12 does."""
    file = folder / "g++"
    file.write_text(
        f"#!/bin/sh\nprintf '  -mavx512f         \\t\\t{avx512}\\n  -mtune=      \\t\\t{tune}\\n'\nexit {code}\n"
    )
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize(
    ("answer", "chosen", "march"),
    [
        (("generic",), None, "native -fno-tree-slp-vectorize"),
        (("sapphirerapids",), None, None),
        (("generic", "[disabled]"), None, None),
        (("generic", "[enabled]", 1), None, None),
        (("generic",), "x86-64-v3", "x86-64-v3"),
    ],
)
def test_only_a_compiler_that_does_not_know_the_processor_is_restrained(
    answer: tuple[str, str, int], chosen: str | None, march: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor import config

    monkeypatch.setenv("CXX", gcc(tmp_path, *answer))
    with config.patch({"cpp.march": chosen}):
        compile_soundly()
        assert config.cpp.march == march


def test_no_compiler_is_no_fault(tmp_path: Path) -> None:
    assert not compilation._tunes_for_no_processor(str(tmp_path / "none"))
