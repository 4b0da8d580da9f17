#!/usr/bin/env python3
"""Makes quantized.safetensors: weights as bitsandbytes quantises them on the CPU.

Made with torch 2.15.0, bitsandbytes 0.50.2, safetensors 0.8.0:
    pip install torch==2.15.0 bitsandbytes==0.50.2 safetensors numpy && python generate.py

Tensors are named CASE.input, CASE.packed, CASE.absmax and so on; what is not a tensor is JSON in the metadata.
"""

import json
from pathlib import Path

import bitsandbytes.functional as F
import torch
from bitsandbytes.backends.default.ops import _get_4bit_quantize_bounds
from safetensors.torch import save_file

assert F.__name__ and torch.__version__.startswith("2.15.0")

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
generator = torch.Generator().manual_seed(20260517)
tensors, cases = {}, {}


def add(name, weight, blocksize, quant_type, nested=False):
    packed, state = F.quantize_4bit(weight, blocksize=blocksize, quant_type=quant_type, compress_statistics=nested)
    decoded = F.dequantize_4bit(packed, state)
    parts = {"input": weight, "packed": packed, "absmax": state.absmax, "decoded": decoded.reshape(weight.shape)}
    case = {"quant_type": quant_type, "blocksize": blocksize, "nested": nested}
    if nested:
        parts |= {"nested_absmax": state.state2.absmax, "nested_quant_map": state.state2.code}
        case["nested_offset"] = state.offset.item()
    for key, value in state.as_dict(packed=True).items():
        if key.startswith("quant_state"):
            parts["state"] = value
    tensors.update({f"{name}.{part}": value.contiguous().clone() for part, value in parts.items()})
    cases[name] = case


def randn(*shape):
    return torch.randn(*shape, generator=generator)


def neighbours(values, steps=2):
    """Every value with the numbers next to it on both sides."""
    out, up, down = [values], values, values
    for _ in range(steps):
        up = torch.nextafter(up, torch.full_like(up, float("inf")))
        down = torch.nextafter(down, torch.full_like(down, float("-inf")))
        out += [up, down]
    return torch.stack(out).flatten()


def blocks(values, scale, blocksize):
    """Values in blocks that each begin with their scale."""
    per_block = blocksize - 1
    values = torch.nn.functional.pad(values, (0, -values.numel() % per_block)).reshape(-1, per_block)
    return torch.cat([torch.full((len(values), 1), scale), values], dim=1)


for quant_type in ("nf4", "fp4"):
    for dtype_name, dtype in DTYPES.items():
        for blocksize in (32, 64, 128, 256, 512, 1024, 2048, 4096):
            rows = max(4, blocksize // 96 + 2) if dtype_name == "bfloat16" or blocksize < 512 else 0
            if rows:
                add(f"random.{quant_type}.{dtype_name}.{blocksize}", randn(rows, 96).to(dtype) * 0.02, blocksize, quant_type)
        add(f"short.{quant_type}.{dtype_name}", randn(5, 30).to(dtype), 64, quant_type)
        add(f"odd.{quant_type}.{dtype_name}", randn(7, 31).to(dtype), 32, quant_type)
        add(f"one.{quant_type}.{dtype_name}", randn(1, 1).to(dtype), 64, quant_type)
        zeros = torch.zeros(3, 48, dtype=dtype)
        zeros[1, 20] = -0.0
        add(f"zeros.{quant_type}.{dtype_name}", zeros, 32, quant_type)
        zeros[0, :32] = randn(32).to(dtype)
        add(f"zero_tail.{quant_type}.{dtype_name}", zeros[:, :47].contiguous(), 64, quant_type)
        rows = 40 if dtype_name == "bfloat16" else 10
        add(f"nested.{quant_type}.{dtype_name}", randn(rows, 224).to(dtype) * randn(rows, 1).to(dtype), 32, quant_type, nested=True)
        least = torch.finfo(dtype).smallest_normal
        add(f"subnormal.{quant_type}.{dtype_name}", (randn(4, 32) * least / 8).to(dtype), 32, quant_type)
        add(f"subnormal_short.{quant_type}.{dtype_name}", (randn(1, 45) * least / 8).to(dtype), 64, quant_type)
        add(f"huge.{quant_type}.{dtype_name}", (torch.rand(4, 32, generator=generator) * 2 - 1).to(dtype) * torch.finfo(dtype).max, 32, quant_type)

    bounds = _get_4bit_quantize_bounds(quant_type, torch.device("cpu"))[0]
    code = F.get_4bit_type(quant_type, device="cpu")
    for place, scale in enumerate((1.0, 0.7310586, 3.0e-5, 1.9999999, 6.1e4, 1.1e-38, 9.0e-39)):
        ties = neighbours(torch.cat([bounds, code]) * torch.tensor(scale), 2 if place else 3)
        ties = ties.clamp(-scale, scale)
        add(f"ties.{quant_type}.float32.{place}", blocks(ties, scale, 32), 32, quant_type)
        add(f"ties_short.{quant_type}.float32.{place}", torch.cat([torch.tensor([scale]), ties])[:4001].reshape(1, -1), 4096, quant_type)
        for dtype_name in ("float16", "bfloat16"):
            exact = torch.tensor([scale]).to(DTYPES[dtype_name])
            if 1e-4 < scale < 6e4:
                ties = neighbours((torch.cat([bounds, code]) * exact.float()).to(DTYPES[dtype_name]), 1).clamp(-exact, exact)
                add(f"ties.{quant_type}.{dtype_name}.{place}", blocks(ties, exact.item(), 32).to(DTYPES[dtype_name]), 32, quant_type)


def add_scales(name, absmax):
    offset = absmax.mean()
    codes, state = F.quantize_blockwise(absmax - offset, blocksize=256)
    decoded = F.dequantize_blockwise(codes, state) + offset
    parts = {"absmax": absmax, "codes": codes, "nested_absmax": state.absmax, "decoded": decoded}
    tensors.update({f"{name}.{part}": value.contiguous().clone() for part, value in parts.items()})
    cases[name] = {"scales": True, "nested_offset": offset.item()}


# Around an offset of zero the values themselves are coded: symmetric lists have that mean.
cells = (torch.arange(65536, dtype=torch.float64) / 65535 * 2 - 1).float()
edges = neighbours(cells[torch.randperm(65536, generator=generator)[:300]], 1)
middle = F.create_dynamic_map()
middle = neighbours((middle[1:] + middle[:-1]) / 2, 2)
for name, values in {"cells": edges, "midpoints": middle}.items():
    half = torch.cat([torch.ones(len(values[::127]), 1), torch.nn.functional.pad(values, (0, -len(values) % 127)).reshape(-1, 127)], 1)
    add_scales(f"scales.{name}", torch.stack([half, -half], 1).flatten().contiguous())
add_scales("scales.random", (randn(1500) * 0.01).abs())
add_scales("scales.equal", torch.full((300,), 0.1))
add_scales("scales.zero", torch.zeros(7))
add_scales("scales.subnormal", (randn(600).abs() * 1e-39))
add_scales("scales.tiny", (randn(600).abs() * 1e-38))
add_scales("scales.one", torch.tensor([0.25]))
tensors["dynamic_map"] = F.create_dynamic_map()

path = Path(__file__).with_name("quantized.safetensors")
save_file(tensors, path, metadata={"cases": json.dumps(cases)})
print(len(cases), "cases,", path.stat().st_size, "bytes")
