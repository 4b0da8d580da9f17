#!/bin/sh
# Runs tests and benchmarks on a machine with a GPU. Writes to the folder results/ beside this script.
#   DEVICE=cuda  the device (wgpu for a try without CUDA)
#   WORKING_SET=536870912  bytes of weights that are read in turn, so that caches do not hold them
#   MODELS=1b,8b,70b,moe-30b  whose layers are measured
#   ROWS=1,2,4,8,16,32,64  rows of activations that they are multiplied with
#   BIG=1  whether a random 8B model and a mixture of experts (28 GB of disk) are made and run; 0 skips them
#   GEMM=8b  whose layers are multiplied in each of the ways that Burn has, for 512 rows; empty skips it
#   SKIP=every_family  tests to leave out, by a part of their names: these run 72 small models, for each of which kernels are compiled
#   PYTHON=python3  a Python with torch and bitsandbytes, for the same shapes
cd "$(dirname "$0")" || exit 1
DEVICE=${DEVICE:-cuda} WORKING_SET=${WORKING_SET:-536870912} MODELS=${MODELS:-1b,8b,70b,moe-30b} ROWS=${ROWS:-1,2,4,8,16,32,64} BIG=${BIG:-1} GEMM=${GEMM-8b} PYTHON=${PYTHON:-python3}
# A test that finds no GPU fails here.
export AUTOMODEL_REQUIRE_GPU=1 RUST_MIN_STACK=67108864 AUTOMODEL_CHECKPOINTS="$PWD/checkpoints"
# NVRTC is where CUDA's toolkit or a Python package has put it, and not always on the loader's path.
for folder in "${CUDA_PATH:-/usr/local/cuda}"/lib64 /usr/local/cuda*/targets/*/lib \
    "$("$PYTHON" -c 'import nvidia, os; print(os.path.join(list(nvidia.__path__)[0], "cu13", "lib"))' 2>/dev/null)"; do
    ls "$folder"/libnvrtc.so* >/dev/null 2>&1 && LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder"
done
export LD_LIBRARY_PATH
mkdir -p results
failed=0
step() {
    name=$1
    shift
    echo "== $name"
    if "$@" >"results/$name.txt" 2>&1; then
        tail -n "${LINES_SHOWN:-3}" "results/$name.txt"
    else
        echo "FAILED: see results/$name.txt"
        tail -n 20 "results/$name.txt"
        failed=1
    fi
}
{ date -u; uname -srm; nvidia-smi || echo "no nvidia-smi"; } >results/machine.txt 2>&1
cat results/machine.txt
LINES_SHOWN=100 step doctor bin/automodel doctor --device "$DEVICE"
for test in tests/*; do
    # shellcheck disable=SC2086 # nothing to skip is no argument
    step "$(basename "$test")" "$test" --nocapture ${SKIP:+--skip $SKIP}
    grep SKIPPED "results/$(basename "$test").txt" | sort | uniq -c
done
LINES_SHOWN=200 step kernels bin/automodel-gpu-bench --device "$DEVICE" --models "$MODELS" --rows "$ROWS" --working-set "$WORKING_SET" --json results/kernels.json
LINES_SHOWN=200 step kernels-fast bin/automodel-gpu-bench --device "$DEVICE" --models "$MODELS" --rows 1,8 --working-set "$WORKING_SET" --fast
[ -z "$GEMM" ] || LINES_SHOWN=200 step gemm bin/automodel-gpu-bench --device "$DEVICE" --models "$GEMM" --gemm 512
if "$PYTHON" -c 'import torch, bitsandbytes; assert torch.cuda.is_available()' 2>/dev/null; then
    LINES_SHOWN=200 step bitsandbytes "$PYTHON" beside_bitsandbytes.py --models "$MODELS" --rows "$ROWS" --working-set "$WORKING_SET" --json results/bitsandbytes.json
else
    echo "SKIPPED: $PYTHON has no torch with CUDA and bitsandbytes"
fi
if [ "$BIG" = 1 ]; then
    [ -d llama-8b ] || step make-8b bin/xtask make-checkpoint --like llama-8b --out llama-8b --max-shard-size 2GB
    for quantize in "" "--quantize nf4"; do
        # shellcheck disable=SC2086 # no quantisation is no argument
        LINES_SHOWN=100 step "8b${quantize:+-nf4}" bin/automodel bench llama-8b --device "$DEVICE" $quantize --new-tokens 256 --warmup 1 --rounds 3
    done
    # A mixture of experts, with a sixth of its layers: the device chooses the experts.
    [ -d qwen3-moe-8 ] || step make-moe bin/xtask make-checkpoint --like qwen3-moe-30b --set num_hidden_layers=8 --out qwen3-moe-8
    for quantize in "" "--quantize nf4"; do
        # shellcheck disable=SC2086 # no quantisation is no argument
        LINES_SHOWN=100 step "moe${quantize:+-nf4}" bin/automodel bench qwen3-moe-8 --device "$DEVICE" $quantize --new-tokens 128 --warmup 1 --rounds 3
    done
    # The time of each launch of a step, where NVIDIA's profiler is.
    if command -v ncu >/dev/null; then
        [ -d llama-8b-4 ] || step make-8b-4 bin/xtask make-checkpoint --like llama-8b --set num_hidden_layers=4 --out llama-8b-4
        step step-profile ncu --clock-control none --graph-profiling node --metrics gpu__time_duration.sum --csv --page raw \
            bin/automodel bench llama-8b-4 --device "$DEVICE" --quantize nf4 --new-tokens 6
    fi
else
    echo "SKIPPED: the random models (BIG=$BIG)"
fi
[ $failed = 0 ] && echo "all passed" || echo "some failed"
exit $failed
