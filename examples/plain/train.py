"""A plain PyTorch trainer, which knows nothing of contests: a small transformer on Python's standard library.

python examples/plain/train.py --optimizer muon --lr 0.01 --seed 0 --steps 200 --out .
"""

import argparse
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn import Linear, Module

from fairstep.data import batches
from fairstep.optim import Muon


class Block(Module):
    def __init__(self, width):
        super().__init__()
        self.qkv, self.out = Linear(width, 3 * width, bias=False), Linear(width, width, bias=False)
        self.up, self.down = Linear(width, 4 * width, bias=False), Linear(4 * width, width, bias=False)

    def forward(self, x):
        heads = self.qkv(F.rms_norm(x, x.shape[-1:])).unflatten(-1, (3, 3, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(*heads, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(F.rms_norm(x, x.shape[-1:]))))


parser = argparse.ArgumentParser()
for name, kind in {"optimizer": str, "lr": float, "seed": int, "steps": int, "out": Path}.items():
    parser.add_argument(f"--{name}", type=kind, required=True)
options = parser.parse_args()
torch.manual_seed(options.seed)
data = batches(batch_sequences=16, context=64, steps=options.steps, seed=options.seed)
embedding, head = torch.nn.Embedding(data.vocabulary, 48), Linear(48, data.vocabulary, bias=False)
torch.nn.init.normal_(embedding.weight, std=0.02)
model = torch.nn.Sequential(embedding, Block(48), Block(48), torch.nn.RMSNorm(48), head)
kind, of = {"adamw": (torch.optim.AdamW, model.parameters()), "muon": (Muon, model)}[options.optimizer]
optimizer = kind(of, lr=options.lr, weight_decay=0.1)
cosine = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: math.cos(math.pi / 2 * step / options.steps))


def loss_of(tokens):
    return F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


for step, batch in enumerate(data):
    loss = loss_of(torch.from_numpy(batch))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    cosine.step()
    print(f"step {step + 1} loss {loss.item():.4f}", flush=True)
with torch.no_grad():
    losses = [loss_of(part).item() for part in torch.from_numpy(data.validation(32_768)).split(64)]
row = {"step": options.steps, "val_loss": sum(losses) / len(losses)}
(options.out / "metrics.jsonl").write_text(json.dumps(row) + "\n")
