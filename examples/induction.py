"""Train small attention-only models to go on with a repeated random sequence, and keep checkpoints.

    python examples/induction.py --out induction/two --layers 2
    python examples/induction.py --out induction/one --layers 1     # the control
    melisma trace ability induction/two --probe induction

Each sequence repeats random tokens with a period of its own (8 to 32), so that no fixed offset
helps: what came after this token's last occurrence must be found. One layer cannot do that; two
can. The models are Llamas whose MLPs write nothing: their last matrix is zero and stays so.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

VOCABULARY, LENGTH = 64, 80
PERIODS = (8, 32)
WIDTH, HEADS = 64, 4
BATCH, RATE = 48, 3e-3
WARM_UP, COOLING = 100, 0.25  # steps, and the share of them at the end in which the rate falls to 0


def repeated(rows: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequences (rows, length) and their periods (rows,)."""
    period = torch.randint(PERIODS[0], PERIODS[1] + 1, (rows,), generator=generator)
    first = torch.randint(0, VOCABULARY, (rows, PERIODS[1]), generator=generator)
    place = torch.arange(LENGTH)[None] % period[:, None]
    return first.gather(1, place), period


def new_model(layers: int) -> LlamaForCausalLM:
    """Attention only: nothing comes out of the MLPs."""
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=1, num_hidden_layers=layers,
        num_attention_heads=HEADS, max_position_embeddings=LENGTH, tie_word_embeddings=False,
        pad_token_id=None, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    for block in model.model.layers:
        torch.nn.init.zeros_(block.mlp.down_proj.weight)
        block.mlp.requires_grad_(False)
    return model


def steps_kept(most: int) -> list[int]:
    """Steps whose weights are kept: a seventh more each time, from 20 on."""
    kept, step = [0], 20.0
    while step < most:
        kept.append(round(step))
        step *= 8 / 7
    return [*kept, most]


def train(out: Path, *, layers: int, steps: int, seed: int) -> None:
    """Train, and save a folder a checkpoint."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = new_model(layers).train()
    learned = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learned, lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    kept, began = steps_kept(steps), time.process_time()
    for step in range(steps + 1):
        if step in kept:
            model.save_pretrained(out / f"step-{step:06d}")
        if step == steps:
            break
        for group in optimiser.param_groups:
            group["lr"] = RATE * min((step + 1) / WARM_UP, (steps - step) / (COOLING * steps), 1.0)
        tokens, period = repeated(BATCH, generator)
        logits = model(input_ids=tokens).logits[:, :-1]
        # Only what repeats can be told; the first time round is left out.
        copied = torch.arange(1, LENGTH)[None] >= period[:, None] + 1
        loss = torch.nn.functional.cross_entropy(logits[copied], tokens[:, 1:][copied])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        if (step + 1) % 100 == 0:
            right = float((logits.argmax(-1) == tokens[:, 1:])[copied].float().mean())
            print(f"step {step + 1} loss {float(loss.detach()):.3f} copied {right:.3f}", flush=True)
    told = {
        "layers": layers, "steps": steps, "seed": seed, "periods": PERIODS,
        "vocabulary": VOCABULARY,
        "length": LENGTH, "processor_seconds": time.process_time() - began,
    }  # fmt: skip
    (out / "training.json").write_text(json.dumps(told, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder for the checkpoints")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    logging.disable_progress_bar()
    train(chosen.out, layers=chosen.layers, steps=chosen.steps, seed=chosen.seed)


if __name__ == "__main__":
    main()
