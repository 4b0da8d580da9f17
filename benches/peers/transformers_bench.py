"""Measure transformers on the same checkpoint: load, first token, prefill, decode, peak memory.

    python transformers_bench.py DIR [--dtype float32|bfloat16|nf4] [--prompt-tokens 512] [--new-tokens 16] [--threads 2]

Prints one JSON object with the keys of `automodel bench --json`. nf4 is bitsandbytes, which quantises while loading.
"""

import time

import common


def main() -> None:
    arguments = common.arguments(__doc__, ["float32", "bfloat16", "nf4"], metavar="DIR")

    import torch
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

    # transformers imports a model's module and its quantiser on first use. Imports do not count as loading.
    getattr(transformers, AutoConfig.from_pretrained(arguments.model).architectures[0])

    torch.set_num_threads(arguments.threads)
    options = {"dtype": getattr(torch, arguments.dtype, torch.bfloat16)}
    if arguments.dtype == "nf4":
        import transformers.integrations.bitsandbytes

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )

    start = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(arguments.model, **options).eval()
    load_seconds = time.perf_counter() - start

    def start_generation():
        cache = None

        def step(tokens):
            nonlocal cache
            output = model(torch.tensor([tokens]), past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = output.past_key_values
            return int(output.logits[0, -1].argmax())

        return step

    with torch.inference_mode():
        measured = common.measure(start_generation, model.config.vocab_size, arguments)
    common.report(arguments.dtype, load_seconds, measured)


if __name__ == "__main__":
    main()
