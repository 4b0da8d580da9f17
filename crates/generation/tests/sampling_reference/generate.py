"""Writes sampling.json: what transformers' own logits processors leave of some logits.

    pip install torch==2.15.0 transformers==5.23.0
    python tests/sampling_reference/generate.py
"""

import json
import pathlib

import torch
from transformers import GenerationConfig
from transformers.generation.utils import GenerationMixin


class Model(GenerationMixin):
    """Just enough of a model for `_get_logits_processor`."""

    class config:
        is_encoder_decoder = False


def processors(options):
    config = GenerationConfig(do_sample=True, **options)
    config.update(**GenerationConfig._get_default_generation_params(), defaults_only=True)
    if "top_k" not in options:
        config.top_k = 0
    config._eos_token_tensor = None
    return GenerationMixin._get_logits_processor(Model(), config, input_ids_seq_length=1)


def case(logits, seen, options):
    scores = torch.tensor([logits], dtype=torch.float32)
    ids = torch.tensor([seen], dtype=torch.long)
    for processor in processors(options):
        scores = processor(ids, scores)
    kept = [[i, s] for i, s in enumerate(scores[0].tolist()) if s != float("-inf")]
    return {"logits": logits, "seen": seen, "options": options, "kept": kept, "argmax": int(torch.argmax(scores[0]))}


def main():
    generator = torch.Generator().manual_seed(7)
    random = [torch.randn(n, generator=generator).mul(3).tolist() for n in (5, 33, 200)]
    tied = [[1.0, 3.0, 2.0, 3.0, 2.0, 2.0, -1.0], [0.0] * 8, [2.0, 2.0, 1.0, 1.0, 1.0, 0.0]]
    masked = [[0.5, float("-inf"), 1.5, float("-inf"), -2.0]]
    options = [
        {},
        {"repetition_penalty": 1.3},
        {"repetition_penalty": 0.7},
        {"temperature": 0.6},
        {"temperature": 1.7},
        {"top_k": 1},
        {"top_k": 3},
        {"top_k": 1000},
        {"top_p": 0.0},
        {"top_p": 0.5},
        {"top_p": 0.9},
        {"top_p": 0.999},
        {"min_p": 0.0},
        {"min_p": 0.05},
        {"min_p": 1.0},
        {"top_k": 4, "top_p": 0.8},
        {"temperature": 0.7, "top_k": 20, "top_p": 0.95, "min_p": 0.02, "repetition_penalty": 1.1},
    ]
    cases = [case(logits, [0, 2, 2, 4], option) for logits in random + tied + masked for option in options]
    path = pathlib.Path(__file__).with_name("sampling.json")
    # Minus infinity is no JSON: a null stands for it.
    text = json.dumps(cases).replace("-Infinity", "null")
    path.write_text(text.replace('}, {"logits"', '},\n{"logits"') + "\n")


main()
