"""A LightningModule and Lightning's Trainer: a small transformer on Python's standard library.

pip install 'fairstep[lightning]'
python examples/lightning_module/train.py --optimizer muon --lr 0.01 --seed 0 --steps 100 --out .
"""

import argparse

import lightning
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from fairstep.data import batches
from fairstep.optim import Muon


class Model(lightning.LightningModule):
    def __init__(self, options, vocabulary, width=48):
        super().__init__()
        self.options = options
        self.embedding = torch.nn.Embedding(vocabulary, width)
        torch.nn.init.normal_(self.embedding.weight, std=0.02)
        layer = torch.nn.TransformerEncoderLayer(width, 3, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = torch.nn.TransformerEncoder(layer, 2, torch.nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = torch.nn.Linear(width, vocabulary, bias=False)

    def loss(self, tokens):
        mask = torch.nn.Transformer.generate_square_subsequent_mask(tokens.shape[1] - 1)
        logits = self.head(self.blocks(self.embedding(tokens[:, :-1]), mask, is_causal=True))
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    def training_step(self, tokens, index):
        loss = self.loss(tokens)
        print(f"step {self.global_step + 1} loss {loss.item():.4f}", flush=True)
        return loss

    def validation_step(self, tokens, index):
        self.log("val_loss", self.loss(tokens))

    def configure_optimizers(self):
        kinds = {"adamw": (torch.optim.AdamW, self.parameters()), "muon": (Muon, self)}  # Muon asks for names too
        kind, of = kinds[self.options.optimizer]
        optimizer = kind(of, lr=self.options.lr, weight_decay=0.1)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.options.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}


parser = argparse.ArgumentParser()
for name, kind in {"optimizer": str, "lr": float, "seed": int, "steps": int, "out": str}.items():
    parser.add_argument(f"--{name}", type=kind, required=True)
options = parser.parse_args()

lightning.seed_everything(options.seed, verbose=False)
data = batches(batch_sequences=16, context=64, steps=options.steps, seed=options.seed)
model = Model(options, data.vocabulary)
trainer = lightning.Trainer(
    max_steps=options.steps,
    accelerator="cpu",
    logger=CSVLogger(options.out, name="", version=""),  # metrics.csv
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(model, DataLoader([torch.from_numpy(batch) for batch in data], batch_size=None))
trainer.validate(model, DataLoader(torch.from_numpy(data.validation(32_768)), 64), verbose=False)
