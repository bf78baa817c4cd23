"""The PyTorch MM-DiT training step on a GPU: torch.compile, bf16 autocast, fused AdamW, clipping, no EMA.

Usage: mmdit_torch_cuda.py SPEC_JSON blocks|whole|eager default|cudnn [MICRO_BATCHES [checkpoint]]
The second argument says what is compiled (every kind of block once, or the model as one graph), the third which attention
scaled_dot_product_attention may use; a step accumulates the gradients of MICRO_BATCHES (1); with `checkpoint`, the backward
pass recomputes every block (torch.utils.checkpoint). Prints a line of JSON when it is ready. Then for every line "SECONDS" on standard input it trains for about that long and prints {"steps", "seconds", "loss",
"peakBytes"}.
"""

import contextlib
import json
import sys
import time

import torch
import torch.nn.functional as F
from mmdit_torch import MMDiT
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint


class Recomputed(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, *inputs):
        return checkpoint(self.block, *inputs, use_reentrant=False)


def main():
    spec, compiled, attention = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
    micro_batches = int(sys.argv[4]) if len(sys.argv) > 4 else 1
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    with torch.device("cuda"):
        model = MMDiT(spec)
    forward = torch.compile(model, dynamic=False) if compiled == "whole" else model
    if compiled == "blocks":
        for block in model.blocks:
            block.compile(dynamic=False)
    if sys.argv[5:] == ["checkpoint"]:
        for at, block in enumerate(model.blocks):
            model.blocks[at] = Recomputed(block)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.01, fused=True)
    b = spec["batch"]
    latent = (b, spec["latentChannels"], spec["latentHeight"], spec["latentWidth"])
    batches = [
        (
            torch.randn(latent, device="cuda"),
            torch.randn(b, spec["contextTokens"], spec["contextDim"], device="cuda"),
            torch.randn(b, spec["pooledDim"], device="cuda"),
        )
        for _ in range(2)
    ]

    def micro_batch(i):
        x0, context, pooled = batches[i % 2]
        t = torch.sigmoid(torch.randn(b, device="cuda"))
        noise = torch.randn(latent, device="cuda")
        mix = t.view(-1, 1, 1, 1)
        z = (1 - mix) * x0 + mix * noise
        with torch.autocast("cuda", torch.bfloat16):
            v = forward(z, 1000 * t, context, pooled)
        loss = F.mse_loss(v.float(), noise - x0)
        (loss / micro_batches).backward()
        return loss.detach()

    def step(i):
        optimizer.zero_grad(set_to_none=True)
        for at in range(micro_batches):
            loss = micro_batch(micro_batches * i + at)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        return loss

    # The choice is made while a graph is traced, so it holds for the whole process.
    choice = sdpa_kernel([SDPBackend.CUDNN_ATTENTION]) if attention == "cudnn" else contextlib.nullcontext()
    with choice:
        started = time.perf_counter()
        for i in range(4):
            step(i)
        torch.cuda.synchronize()
        ready = {
            "torch": torch.__version__,
            "cudnn": torch.backends.cudnn.version(),
            "parameters": sum(p.numel() for p in model.parameters()),
            "warmUpSeconds": time.perf_counter() - started,
        }
        print(json.dumps(ready), flush=True)
        for line in sys.stdin:
            limit = float(line)
            torch.cuda.reset_peak_memory_stats()
            started, steps = time.perf_counter(), 0
            while True:
                loss = step(steps)
                steps += 1
                torch.cuda.synchronize()  # as our step, which waits for the norm
                seconds = time.perf_counter() - started
                if seconds >= limit:
                    break
            result = {
                "steps": steps,
                "seconds": seconds,
                "loss": loss.item(),
                "peakBytes": torch.cuda.max_memory_allocated(),
            }
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
