"""The shapes of automodel-gpu-bench through bitsandbytes and PyTorch, and the copy bandwidth beside them."""

import argparse
import json
import statistics
import time

import bitsandbytes
import torch
from bitsandbytes import functional

SHAPES = {"tiny": (256, 64, 512), "1b": (2048, 512, 8192), "8b": (4096, 1024, 14336), "70b": (8192, 1024, 28672)}


def per_launch(count, launch):
    """Seconds of one launch: replayed from a recording of all, and launched one by one."""

    def median(run):
        def timed(passes):
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(passes):
                run()
            torch.cuda.synchronize()
            return (time.perf_counter() - start) / passes

        timed(1)
        passes = max(1, min(10_000, round(0.02 / max(timed(1), 1e-9))))
        return statistics.median(timed(passes) for _ in range(7)) / count

    def run():
        for i in range(count):
            launch(i)

    launched = median(run)
    try:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            run()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        replayed = median(graph.replay)
    except RuntimeError as error:
        print(f"no recording: {error}")
        torch.cuda.synchronize()
        replayed = None
    return {"replayed": replayed, "launched": launched}


def of_device(seconds):
    return seconds["replayed"] or seconds["launched"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", default="1b,8b,70b")
    parser.add_argument("--rows", default="1,2,4,8,16,32,64")
    parser.add_argument("--working-set", type=int, default=512 << 20)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    source = torch.rand(arguments.working_set // 4, device="cuda")
    target = torch.empty_like(source)
    copy = 2 * source.numel() * 4 / of_device(per_launch(1, lambda _: target.copy_(source)))
    del source, target
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, bitsandbytes {bitsandbytes.__version__}")
    print(f"copies at {copy / 1e9:.1f} GB/s, read and written bytes together\n")
    print("| model | layer | out x in | what | µs | GB/s | of the copy | launched, µs |\n|---|---|---|---|---|---|---|---|")
    measured = []

    def note(model, layer, shape, what, seconds, moved):
        measured.append({"model": model, "layer": layer, "shape": shape, "what": what, "seconds": seconds, "bytes": moved})
        speed = moved / of_device(seconds)
        print(
            f"| {model} | {layer} | {shape[0]} x {shape[1]} | {what} | {of_device(seconds) * 1e6:.1f} | {speed / 1e9:.0f} "
            f"| {100 * speed / copy:.0f} % | {seconds['launched'] * 1e6:.1f} |"
        )

    # Mixtures have no layers that it multiplies.
    for model in filter(SHAPES.__contains__, arguments.models.split(",")):
        hidden, kv, inner = SHAPES[model]
        layers = {"q, o": (hidden, hidden), "k, v": (kv, hidden), "gate, up": (inner, hidden), "down": (hidden, inner)}
        for layer, (out, width) in layers.items():
            elements = out * width
            packed = elements // 2 + elements // 64 * 4
            dense = torch.randn(out, width, device="cuda", dtype=torch.bfloat16) * 0.02
            quantize = lambda _=0: functional.quantize_4bit(dense, blocksize=64, quant_type="nf4")
            note(model, layer, (out, width), "quantise", per_launch(1, quantize), 2 * elements + packed)
            weights = [quantize() for _ in range(max(1, min(256, arguments.working_set // packed)))]
            decode = lambda i: functional.dequantize_4bit(*weights[i])
            note(model, layer, (out, width), "dequantise", per_launch(len(weights), decode), packed + 2 * elements)
            for rows in map(int, arguments.rows.split(",")):
                x = torch.randn(rows, width, device="cuda", dtype=torch.bfloat16)
                product = lambda i: bitsandbytes.matmul_4bit(x, weights[i][0].t(), quant_state=weights[i][1])
                moved = packed + 2 * rows * (width + out)
                note(model, layer, (out, width), f"product, {rows} rows", per_launch(len(weights), product), moved)
                bf16 = per_launch(8, lambda _: torch.nn.functional.linear(x, dense))
                note(model, layer, (out, width), f"bf16 product, {rows} rows", bf16, 2 * elements + 2 * rows * (width + out))
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"copy_bytes_per_second": copy, "measured": measured}, file, indent=2)


if __name__ == "__main__":
    main()
