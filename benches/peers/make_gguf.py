"""Writes the weights of a Llama checkpoint in Hugging Face layout as GGUF files: bfloat16, and Q4_0 made of it by llama.cpp.

    python make_gguf.py DIR --bf16 OUT.gguf [--q4-0 OUT.gguf] [--threads 2]

There is no tokenizer in them: the benchmarks give token ids. An existing file is kept.
"""

import argparse
import json
import mmap
import os
from pathlib import Path

import gguf
import numpy as np

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
STORED = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="DIR")
    parser.add_argument("--bf16", type=Path, required=True)
    parser.add_argument("--q4-0", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    whole(arguments.bf16, lambda path: write_bf16(arguments.model, path))
    if arguments.q4_0:
        whole(arguments.q4_0, lambda path: quantize(arguments.bf16, path, arguments.threads))


def whole(path, write):
    """Writes a file beside its place and moves it there when it is complete."""
    if path.exists():
        return
    partial = path.with_suffix(".partial")
    write(partial)
    os.replace(partial, path)


def write_bf16(model, path):
    config = json.loads((model / "config.json").read_text())
    if config["model_type"] != "llama":
        raise SystemExit(f"model_type {config['model_type']}: only llama is known here")
    heads, key_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or {"rope_theta": config.get("rope_theta", 10000.0)}
    if rope.get("rope_type", "default") != "default":
        raise SystemExit(f"rope_type {rope['rope_type']}: only default is known here")

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(key_heads)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)

    for name, stored, values in tensors(model):
        if name.endswith("self_attn.q_proj.weight"):
            values = interleave(values, heads)
        elif name.endswith("self_attn.k_proj.weight"):
            values = interleave(values, key_heads)
        if values.ndim == 1:
            writer.add_tensor(gguf_name(name), as_float32(stored, values))
        else:
            writer.add_tensor(gguf_name(name), as_bf16(stored, values), raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors(model):
    """Name, stored dtype and values (bfloat16 as uint16) of every tensor, mapped from the files."""
    # The safetensors library has no bfloat16 in NumPy. Format: 8 bytes with the header's length, the header, the tensors.
    for path in sorted(model.glob("*.safetensors")):
        with open(path, "rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        length = int.from_bytes(data[:8], "little")
        for name, entry in json.loads(data[8 : 8 + length]).items():
            if name == "__metadata__":
                continue
            dtype = np.dtype(STORED[entry["dtype"]])
            start, end = entry["data_offsets"]
            values = np.frombuffer(data, dtype, (end - start) // dtype.itemsize, 8 + length + start)
            yield name, entry["dtype"], values.reshape(entry["shape"])


def gguf_name(name):
    module = name.removesuffix(".weight")
    if module.startswith("model.layers."):
        _, _, layer, module = module.split(".", 3)
        return f"blk.{layer}.{NAMES[module]}.weight"
    return f"{NAMES[module]}.weight"


def interleave(values, heads):
    """Rows of each head in the order of llama.cpp's rotation, which turns neighbours where transformers turns halves."""
    rows, columns = values.shape
    return values.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def as_float32(stored, values):
    return (values.astype(np.uint32) << 16).view(np.float32) if stored == "BF16" else values.astype(np.float32)


def as_bf16(stored, values):
    if stored == "BF16":
        return values.view(np.uint8)
    return gguf.quants.quantize(values.astype(np.float32), gguf.GGMLQuantizationType.BF16)


def quantize(source, path, threads):
    import llama_cpp

    llama_cpp.llama_backend_init()
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0
    parameters.nthread = threads
    if llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(path), parameters) != 0:
        raise SystemExit(f"llama.cpp could not quantise {source}")


if __name__ == "__main__":
    main()
