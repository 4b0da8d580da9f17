"""Train a small Llama checkpoint that adds two numbers below 100.

Run `python train.py` to write the checkpoint into the folder above this one,
or `python train.py --check` to measure the checkpoint that is already there.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, processors
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
PAD, BOS, EOS = 0, 1, 2
VOCAB = {token: index for index, token in enumerate(SPECIAL + list("0123456789+="))}

SEED = 20
LIMIT = 100  # operands are below this
HELD_OUT = 1500
HELD_OUT_DOUBLES = 16
IGNORE = -100
LONGEST = 1 + len("99+99=198") + 1
SHORT_WEIGHT = 3.0
WARMUP = 100
REQUIRED = 0.99
NF4_BLOCK = 64
NF4_LEVELS = torch.tensor([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
])  # fmt: skip


def split_sums():
    """Hold out sums so that a+b and b+a always fall on the same side."""
    rng = random.Random(SEED)
    mixed = [(a, b) for a in range(LIMIT) for b in range(a + 1, LIMIT)]
    mixed.remove((27, 48))
    chosen = [(27, 48)] + rng.sample(mixed, (HELD_OUT - HELD_OUT_DOUBLES) // 2 - 1)
    held_out = {(a, a) for a in rng.sample(range(LIMIT), HELD_OUT_DOUBLES)}
    held_out |= {pair for a, b in chosen for pair in ((a, b), (b, a))}
    everything = [(a, b) for a in range(LIMIT) for b in range(LIMIT)]
    return [p for p in everything if p not in held_out], sorted(held_out)


def build_tokenizer():
    # Byte-pair encoding without merges splits text into single characters.
    tokenizer = Tokenizer(models.BPE(vocab=VOCAB, merges=[], unk_token="<unk>"))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B:1", special_tokens=[("<s>", BOS)]
    )
    tokenizer.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        padding_side="left",
        model_max_length=64,
        clean_up_tokenization_spaces=False,
    )


def build_model():
    config = LlamaConfig(
        vocab_size=len(VOCAB),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD, do_sample=False, max_new_tokens=8
    )
    return model


def encode(pairs):
    """Right-padded inputs and next-token targets; only the answer is a target."""
    inputs, targets = [], []
    for a, b in pairs:
        prompt = [BOS] + [VOCAB[c] for c in f"{a}+{b}="]
        answer = [VOCAB[c] for c in str(a + b)] + [EOS]
        ids = prompt + answer
        labels = [IGNORE] * (len(prompt) - 1) + answer
        padding = LONGEST - len(ids)
        inputs.append(ids[:-1] + [PAD] * padding)
        targets.append(labels + [IGNORE] * padding)
    return torch.tensor(inputs), torch.tensor(targets)


def train(model, pairs, args):
    inputs, targets = encode(pairs)
    # Most sums have two-digit operands, so the short ones are drawn more often.
    weights = torch.tensor([SHORT_WEIGHT ** sum(n < 10 for n in pair) for pair in pairs])
    matrices = [p for p in model.parameters() if p.dim() > 1]
    scales = [p for p in model.parameters() if p.dim() == 1]
    groups = [
        {"params": matrices, "weight_decay": args.weight_decay},
        {"params": scales, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98))

    def rate(step):
        cosine = 0.5 * (1 + math.cos(math.pi * step / args.steps))
        return min(1.0, (step + 1) / WARMUP) * (0.02 + 0.98 * cosine)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    started = time.time()
    model.train()
    for step in range(1, args.steps + 1):
        batch = torch.multinomial(weights, args.batch)
        logits = model(input_ids=inputs[batch], use_cache=False).logits
        loss = F.cross_entropy(
            logits.flatten(0, 1), targets[batch].flatten(), ignore_index=IGNORE
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            seconds = time.time() - started
            print(f"step {step:5}  loss {loss.item():.5f}  {seconds:.0f} s", flush=True)
    print(f"trained {args.steps} steps in {time.time() - started:.0f} s")


@torch.no_grad()
def accuracy(model, tokenizer, pairs):
    """Share of sums answered exactly by greedy generation, and the wrong answers."""
    wrong = []
    # Prompts of one length need no padding.
    shapes = {}
    for pair in pairs:
        shapes.setdefault(tuple(len(str(n)) for n in pair), []).append(pair)
    for group in shapes.values():
        prompts = tokenizer([f"{a}+{b}=" for a, b in group], return_tensors="pt")
        output = model.generate(
            input_ids=prompts["input_ids"], attention_mask=prompts["attention_mask"]
        )
        answers = tokenizer.batch_decode(
            output[:, prompts["input_ids"].shape[1] :], skip_special_tokens=True
        )
        wrong += [f"{a}+{b}={t}" for (a, b), t in zip(group, answers) if t != str(a + b)]
    return 1 - len(wrong) / len(pairs), wrong


@torch.no_grad()
def round_to_nf4(model):
    """Replace the linear weights by what 4-bit NF4 storage would keep of them."""
    for module in model.model.modules():
        if isinstance(module, torch.nn.Linear):
            blocks = module.weight.reshape(-1, NF4_BLOCK)
            scale = blocks.abs().amax(dim=1, keepdim=True)
            nearest = ((blocks / scale)[..., None] - NF4_LEVELS).abs().argmin(dim=-1)
            module.weight.copy_((NF4_LEVELS[nearest] * scale).reshape(module.weight.shape))


def write(folder, model, tokenizer, held_out):
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # Releases of transformers before 5 do not know the class name that 5 writes.
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(settings, indent=2) + "\n")
    lines = "".join(f"{a}+{b}={a + b}\n" for a, b in held_out)
    (folder / "held_out.txt").write_text(lines)


def check(folder, seen, held_out):
    """Load the written folder back and measure it."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer("27+48=")["input_ids"]) == "<s>27+48="
    measured, wrong = accuracy(model, tokenizer, held_out)
    print(f"held-out sums: {measured:.2%}  wrong: {wrong}")
    share, wrong = accuracy(model, tokenizer, seen)
    print(f"training sums: {share:.2%}  wrong: {wrong}")
    round_to_nf4(model)
    share, wrong = accuracy(model, tokenizer, held_out)
    print(f"held-out sums, linear layers rounded to NF4: {share:.2%}  wrong: {wrong}")
    assert measured >= REQUIRED, f"{measured:.2%} of the held-out sums, {REQUIRED:.0%} wanted"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(args.threads)

    seen, held_out = split_sums()
    if not args.check:
        model = build_model()
        print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
        train(model, seen, args)
        write(args.out, model, build_tokenizer(), held_out)
    check(args.out, seen, held_out)


if __name__ == "__main__":
    main()
