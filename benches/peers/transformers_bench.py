"""What transformers takes for the same checkpoint: load, first token, prefill, decode, peak memory.

    python transformers_bench.py DIR [--dtype float32|bfloat16|nf4] [--prompt-tokens 512] [--new-tokens 16] [--threads 2]

Prints one JSON object with the keys of `automodel bench --json`.
"""

import argparse
import json
import resource
import statistics
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "nf4"])
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()

    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    torch.set_num_threads(arguments.threads)
    options = {"dtype": getattr(torch, arguments.dtype, torch.bfloat16)}
    if arguments.dtype == "nf4":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )

    start = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(arguments.model, **options).eval()
    loaded = time.perf_counter()

    vocab_size = model.config.vocab_size
    prompt = torch.tensor([[index * 7919 % vocab_size for index in range(arguments.prompt_tokens)]])
    with torch.inference_mode():
        began = time.perf_counter()
        output = model(prompt, use_cache=True, logits_to_keep=1)
        token = output.logits[:, -1:].argmax(-1)
        first = time.perf_counter()
        steps = []
        for _ in range(arguments.new_tokens - 1):
            step = time.perf_counter()
            output = model(token, past_key_values=output.past_key_values, use_cache=True)
            token = output.logits[:, -1:].argmax(-1)
            steps.append(time.perf_counter() - step)

    print(
        json.dumps(
            {
                "dtype": arguments.dtype,
                "load_seconds": loaded - start,
                "first_token_seconds": first - began,
                "prefill_tokens_per_second": arguments.prompt_tokens / (first - began),
                "decode_tokens_per_second": 1 / statistics.median(steps) if steps else None,
                "peak_resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
