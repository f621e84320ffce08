"""An optimizer of ours in somebody else's loop: SOAP trains a small Llama of Hugging Face Transformers.

    pip install 'fairstep[eval]'
    python examples/transformers_loop.py --steps 60

Nothing is downloaded: the model starts from random weights, and the text is this file's folder, byte by byte.
"""

import argparse
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from fairstep.optim import SOAP

CONTEXT, BATCH, BYTES = 64, 16, 256


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=60)
    steps = parser.parse_args().steps

    torch.manual_seed(0)
    text = b"\n".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    tokens = torch.tensor(list(text))
    config = LlamaConfig(
        vocab_size=BYTES, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2
    )
    model = LlamaForCausalLM(config)

    # The whole module, not model.parameters(): embedding, head, hidden matrices and vectors have roles of their own.
    optimizer = SOAP(model, lr=3e-3, weight_decay=0.1)
    print(optimizer.routing_table())
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    for step in range(steps):
        starts = torch.randint(len(tokens) - CONTEXT, (BATCH,))
        batch = torch.stack([tokens[start : start + CONTEXT] for start in starts])
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 20 == 0 or step == steps - 1:
            print(f"step {step:3}  loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
