"""Measure llama.cpp on a GGUF file: load, first token, prefill, decode, peak memory.

    python llama_bench.py FILE.gguf [--dtype bf16|q4_0] [--prompt-tokens 512] [--new-tokens 16] [--threads 2]

Prints one JSON object with the keys of `automodel bench --json`. The file is mapped, as by default; the model is called through
llama-cpp-python's C functions, because its class `Llama` needs a tokenizer.
"""

import ctypes
import os
import time

import common
import llama_cpp
import numpy as np


def main() -> None:
    arguments = common.arguments(__doc__, ["bf16", "q4_0"], metavar="FILE.gguf")
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))

    start = time.perf_counter()
    llama_cpp.llama_backend_init()
    options = llama_cpp.llama_model_default_params()
    options.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(os.fsencode(arguments.model), options)
    if not model:
        raise SystemExit(f"llama.cpp could not load {arguments.model}")
    options = llama_cpp.llama_context_default_params()
    length = arguments.prompt_tokens + arguments.new_tokens
    options.n_ctx = length
    options.n_batch = length
    options.n_threads = arguments.threads
    options.n_threads_batch = arguments.threads
    context = llama_cpp.llama_init_from_model(model, options)
    if not context:
        raise SystemExit("llama.cpp could not make a context")
    load_seconds = time.perf_counter() - start

    vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))

    def start_generation():
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        return step

    def step(tokens):
        array = (llama_cpp.llama_token * len(tokens))(*tokens)
        if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(array, len(tokens))) != 0:
            raise SystemExit("llama.cpp could not decode")
        logits = llama_cpp.llama_get_logits_ith(context, -1)
        return int(np.ctypeslib.as_array(logits, shape=(vocab_size,)).argmax())

    measured = common.measure(start_generation, vocab_size, arguments)
    common.report(arguments.dtype, load_seconds, measured)


if __name__ == "__main__":
    main()
