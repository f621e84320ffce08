"""AdamW against Muon in a function of one's own, tuned alike, on fresh seeds: python examples/function.py 100"""

import sys

import torch
import torch.nn.functional as F

import fairstep
from fairstep.data import batches
from fairstep.optim import Muon


def train(optimizer, lr, seed, steps):
    torch.manual_seed(seed)
    data = batches(batch_sequences=16, context=32, steps=steps, seed=seed)
    layers = [torch.nn.Linear(32, 128), torch.nn.GELU(), torch.nn.Linear(128, 32)]
    model = torch.nn.Sequential(torch.nn.Embedding(data.vocabulary, 32), *layers, torch.nn.Linear(32, data.vocabulary))
    steps_of = Muon(model, lr=lr) if optimizer == "muon" else torch.optim.AdamW(model.parameters(), lr=lr)
    for batch in map(torch.from_numpy, data):
        steps_of.zero_grad()
        F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten()).backward()
        steps_of.step()
    windows = torch.from_numpy(data.validation(32_768))
    return F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten()).item()


if __name__ == "__main__":
    contestants = {name: {"optimizer": name, "lr": [1e-2, 2e-2, 4e-2]} for name in ("adamw", "muon")}
    print(fairstep.contest(train, contestants, steps=int(sys.argv[1]), batch_tokens=512, store="runs/function"))
