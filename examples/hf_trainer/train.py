"""Hugging Face's Trainer and a small Llama from a config, on Python's standard library.

pip install 'fairstep[eval]'
python examples/hf_trainer/train.py --optimizer muon --lr 0.01 --seed 0 --steps 100 --out .
"""

import argparse

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

from fairstep.data import batches
from fairstep.optim import Muon


class Words(TrainerCallback):
    """The log, in words that a live display reads."""

    def on_log(self, arguments, state, control, logs, **others):
        if "loss" in logs:
            print(f"step {state.global_step} loss {float(logs['loss']):.4f}", flush=True)


parser = argparse.ArgumentParser()
for name, kind in {"optimizer": str, "lr": float, "seed": int, "steps": int, "out": str}.items():
    parser.add_argument(f"--{name}", type=kind, required=True)
options = parser.parse_args()

torch.manual_seed(options.seed)
data = batches(batch_sequences=16, context=64, steps=options.steps, seed=options.seed)
sizes = {"hidden_size": 48, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 3}
model = LlamaForCausalLM(LlamaConfig(vocab_size=data.vocabulary, **sizes))
if options.optimizer == "muon":
    optimizer = Muon(model, lr=options.lr, weight_decay=0.1)  # the whole model: every part has a role
else:
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=0.1)

trainer = Trainer(
    model,
    TrainingArguments(
        output_dir=options.out,
        max_steps=options.steps,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=64,
        lr_scheduler_type="cosine",
        seed=options.seed,
        logging_steps=5,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    ),
    train_dataset=[{"input_ids": row, "labels": row} for batch in data for row in torch.from_numpy(batch)],
    eval_dataset=[{"input_ids": row, "labels": row} for row in torch.from_numpy(data.validation(32_768))],
    optimizers=(optimizer, None),  # the schedule stays the Trainer's
    callbacks=[Words()],
)
trainer.train()
trainer.save_metrics("eval", trainer.evaluate())  # eval_results.json
