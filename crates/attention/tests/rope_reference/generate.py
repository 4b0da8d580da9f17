"""Writes rope.json: inverse frequencies, attention scaling and cosines and sines of every rope type of transformers.

Pinned: transformers==5.23.0; made with torch 2.15.0+cu132 on a CPU. Run with
    python crates/attention/tests/rope_reference/generate.py
"""

import json
import pathlib

import torch
import transformers
from transformers import LlamaConfig, StableLmConfig
from transformers.models.cohere.modeling_cohere import rotate_half as rotate_every_two
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, rotate_half
from transformers.models.stablelm.modeling_stablelm import StableLmRotaryEmbedding

assert transformers.__version__ == "5.23.0", transformers.__version__
HEAD_DIM = 32
MAX_POSITION_EMBEDDINGS = 64
LENGTHS = [1, 10, 64, 65, 200, 5000]


def long_factors(scale):
    return [1.0 + scale * i / 16 for i in range(HEAD_DIM // 2)]


# name -> rope_parameters; lengths are the largest position + 1 of a call
CASES = {
    "default": {"rope_type": "default", "rope_theta": 10000.0},
    "default_partial": {"rope_type": "default", "rope_theta": 500000.0, "partial_rotary_factor": 0.25},
    "linear": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.5},
    "dynamic_partial": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0, "partial_rotary_factor": 0.5},
    "yarn": {
        "rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 64,
    },
    "yarn_no_truncate": {
        "rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "original_max_position_embeddings": 4096,
        "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
    },
    "yarn_attention_factor": {
        "rope_type": "yarn", "rope_theta": 1000000.0, "factor": 4.0, "original_max_position_embeddings": 32768,
        "attention_factor": 0.75, "beta_fast": 16.0, "beta_slow": 2.0,
    },
    "yarn_mscale": {
        "rope_type": "yarn", "rope_theta": 10000.0, "factor": 40.0, "original_max_position_embeddings": 4096,
        "mscale": 1.0, "mscale_all_dim": 0.5,
    },
    "longrope": {
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": long_factors(0.5),
        "long_factor": long_factors(40.0), "original_max_position_embeddings": 32,
    },
    "longrope_attention_factor": {
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": long_factors(0.1),
        "long_factor": long_factors(9.0), "original_max_position_embeddings": 64, "attention_factor": 1.25,
    },
    "llama3": {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    },
    "llama3_short": {
        "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.5,
        "high_freq_factor": 3.0, "original_max_position_embeddings": 256,
    },
    "proportional": {"rope_type": "proportional", "rope_theta": 1000000.0, "partial_rotary_factor": 0.25},
    "proportional_factor": {
        "rope_type": "proportional", "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "factor": 2.0,
    },
}


def config_of(parameters):
    return LlamaConfig(
        hidden_size=2 * HEAD_DIM, num_attention_heads=2, head_dim=HEAD_DIM,
        max_position_embeddings=MAX_POSITION_EMBEDDINGS, rope_parameters=dict(parameters),
    )


def probe_positions(length):
    return sorted({0, length // 3, length - 1})


def rotary_width(parameters):
    return int(HEAD_DIM * parameters.get("partial_rotary_factor", 1.0))


def case(name, parameters):
    calls = []
    for length in LENGTHS:
        config = config_of(parameters)
        if parameters["rope_type"] == "default" and "partial_rotary_factor" in parameters:
            # Llama's own default ignores the partial factor; StableLm's does not.
            config = StableLmConfig(
                hidden_size=2 * HEAD_DIM, num_attention_heads=2, max_position_embeddings=MAX_POSITION_EMBEDDINGS,
                rope_parameters=dict(parameters),
            )
            embedding = StableLmRotaryEmbedding(config)
        else:
            embedding = LlamaRotaryEmbedding(config)
        positions = probe_positions(length)
        cos, sin = embedding(torch.zeros(1), torch.tensor([positions]))
        half = embedding.inv_freq.numel()
        calls.append({
            "total_length": length,
            "inverse_frequencies": embedding.inv_freq.tolist(),
            "positions": positions,
            "cos": cos[0, :, :half].tolist(),
            "sin": sin[0, :, :half].tolist(),
        })
    return {
        "name": name,
        "head_dim": HEAD_DIM,
        "rotary_dim": rotary_width(parameters),
        "max_position_embeddings": MAX_POSITION_EMBEDDINGS,
        "rope_parameters": parameters,
        "attention_scaling": float(embedding.attention_scaling),
        "calls": calls,
    }


def rotations():
    """`x` turned by both pairings, wholly and in part, as the models do it."""
    torch.manual_seed(0)
    heads, length, width = 2, 3, 8
    positions = [[0, 5, 17], [2, 3, 40]]
    x = torch.randn(2, heads, length, width)
    results = []
    for pairing, rotate, repeat in [
        ("half_split", rotate_half, lambda f: torch.cat((f, f), dim=-1)),
        ("interleaved", rotate_every_two, lambda f: torch.repeat_interleave(f, 2, dim=-1)),
    ]:
        for rotary_dim in [8, 4]:
            inv_freq = 1.0 / (100.0 ** (torch.arange(0, rotary_dim, 2, dtype=torch.int64).float() / rotary_dim))
            angles = torch.tensor(positions).float()[:, :, None] * inv_freq
            cos, sin = repeat(angles.cos())[:, None], repeat(angles.sin())[:, None]
            part, rest = x[..., :rotary_dim], x[..., rotary_dim:]
            turned = torch.cat((part * cos + rotate(part) * sin, rest), dim=-1)
            results.append({"pairing": pairing, "rotary_dim": rotary_dim, "output": turned.flatten().tolist()})
    return {
        "theta": 100.0, "shape": list(x.shape), "positions": positions, "input": x.flatten().tolist(),
        "results": results,
    }


def main():
    cases = [case(name, parameters) for name, parameters in CASES.items()]
    path = pathlib.Path(__file__).with_name("rope.json")
    document = {"transformers": transformers.__version__, "cases": cases, "rotations": rotations()}
    path.write_text(json.dumps(document) + "\n")
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
