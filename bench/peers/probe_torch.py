"""What PyTorch has on this machine: version, instruction set, and how fast it multiplies on the CPU in each precision.

Usage: probe_torch.py THREADS SIMD_BITS|none
Prints a line of JSON. "rates" are FLOP/s, of the best 512^3 product on all threads.
"""

import json
import sys
import time
import warnings

warnings.filterwarnings("ignore", message="Failed to initialize NumPy")

import torch
from torch._inductor import config, cpu_vec_isa

N = 512
SECONDS = 0.5
# MKL is what PyTorch takes by itself; noise should not change that.
CLEARLY = 1.25


def rate(a, b):
    torch.mm(a, b)
    best, started = float("inf"), time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        before = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - before)
    return 2 * N**3 / best


def main():
    torch.manual_seed(0)
    torch.set_num_threads(int(sys.argv[1]))
    config.cpp.simdlen = None if sys.argv[2] == "none" else int(sys.argv[2])
    a, b = torch.randn(N, N), torch.randn(N, N)
    exact = a.double() @ b.double()
    rates = {"fp32": 0.0, "bf16": rate(a.bfloat16(), b.bfloat16())}
    # "medium" lets fp32 matmuls go to oneDNN, which has AVX-512 kernels for processors on which MKL has none. Where they
    # would round their operands to bf16, they do not count as fp32.
    for setting in ("highest", "medium"):
        torch.set_float32_matmul_precision(setting)
        found = rate(a, b)
        error = ((a @ b).double() - exact).abs().max() / exact.abs().max()
        if found > CLEARLY * rates["fp32"] and error < 1e-5:
            rates["fp32"], chosen = found, setting
    facts = {
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "inductor": str(cpu_vec_isa.pick_vec_isa()),
        "fp32Matmul": chosen,
        "rates": rates,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
