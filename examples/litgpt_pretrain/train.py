"""LitGPT's pretraining of a small Llama, on Python's standard library.

pip install 'fairstep[litgpt]'
python examples/litgpt_pretrain/train.py --optimizer muon --lr 0.01 --seed 0 --steps 100 --out .
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # so small a model is trained sooner than it is compiled

import torch
from litgpt import GPT, Config
from litgpt.args import EvalArgs, TrainArgs
from litgpt.data import DataModule
from litgpt.pretrain import setup

from fairstep.data import batches
from fairstep.optim import Muon


class Text(DataModule):
    def connect(self, tokenizer=None, batch_size=1, max_seq_length=None, **others):
        pass

    def train_dataloader(self):
        return torch.utils.data.DataLoader([torch.from_numpy(batch) for batch in data], batch_size=None)

    def val_dataloader(self):
        return torch.utils.data.DataLoader(torch.from_numpy(data.validation(32_768)), batch_size=64)


def muon(parameters, **settings):
    """LitGPT gives parameters without their names, which tell Muon what is the embedding and what the head."""
    with torch.device("meta"):
        names = [name for name, _ in GPT(config).named_parameters()]
    return Muon(zip(names, parameters, strict=True), **settings)


parser = argparse.ArgumentParser()
for name, kind in {"optimizer": str, "lr": float, "seed": int, "steps": int, "out": Path}.items():
    parser.add_argument(f"--{name}", type=kind, required=True)
options = parser.parse_args()

data = batches(batch_sequences=16, context=64, steps=options.steps, seed=options.seed)
kind = {"adamw": "torch.optim.AdamW", "muon": "__main__.muon"}[options.optimizer]
sizes = {"n_layer": 2, "n_head": 3, "n_embd": 48, "intermediate_size": 128, "block_size": 64}
config = Config.from_name("Llama-3.2-1B", padded_vocab_size=data.vocabulary, n_query_groups=3, **sizes)
sys.argv[1:] = ["pretrain", config.name]  # which LitGPT keeps beside its checkpoint
setup(
    config.name,
    config,
    options.out,
    precision="32-true",
    data=Text(),
    train=TrainArgs(
        global_batch_size=16,
        micro_batch_size=16,
        max_tokens=options.steps * 16 * 64,
        lr_warmup_steps=0,
        max_norm=1.0,
        min_lr=0.0,
        save_interval=None,
        log_interval=1,
    ),
    eval=EvalArgs(interval=options.steps, max_iters=100, final_validation=False),
    optimizer={"class_path": kind, "init_args": {"lr": options.lr, "weight_decay": 0.1}},
    devices=1,
    logger_name="csv",
    seed=options.seed,
)
