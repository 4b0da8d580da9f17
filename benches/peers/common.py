"""Shared by the scripts of all peers: options, the prompt, the clock, and the report with the keys of `automodel bench --json`."""

import argparse
import json
import time


def arguments(description, dtypes, **options):
    """Parses the command line of a peer's script."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", **options)
    parser.add_argument("--dtype", default=dtypes[0], choices=dtypes)
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--warmup", type=int, default=0, help="generations before the measured one")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def prompt(count, vocab_size):
    """The token ids of `automodel bench`."""
    return [(index * 7919 + 13) % vocab_size for index in range(count)]


def measure(start, vocab_size, arguments):
    """The figures of a greedy generation after those that warm up. `start()` empties the cache and returns a step, which takes
    token ids and returns the next one."""
    tokens = prompt(arguments.prompt_tokens, vocab_size)
    for _ in range(arguments.warmup):
        generate(start(), tokens, arguments.new_tokens)
    return generate(start(), tokens, arguments.new_tokens)


def generate(step, tokens, new_tokens):
    """Greedy generation: times, and the tokens."""
    began = time.perf_counter()
    generated = [step(tokens)]
    first = time.perf_counter()
    while len(generated) < new_tokens:
        generated.append(step(generated[-1:]))
    ended = time.perf_counter()
    decoded = len(generated) - 1
    return {
        "first_token_seconds": first - began,
        "prefill_tokens_per_second": len(tokens) / (first - began),
        "decode_tokens_per_second": decoded / (ended - first) if decoded else None,
        "tokens": generated,
    }


def peak_resident_bytes():
    """Highest resident memory of this process, interpreter and libraries included; None where the system does not tell."""
    # Not getrusage: its ru_maxrss starts with the peak of the parent process.
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return None


def report(dtype, load_seconds, measured):
    """Prints one JSON object."""
    print(json.dumps({"dtype": dtype, "load_seconds": load_seconds, "peak_resident_bytes": peak_resident_bytes(), **measured}))
