"""A plain PyTorch MM-DiT training step on the CPU, for comparison: fp32 or bf16 autocast, AdamW, clipping, no EMA.

Usage: mmdit_torch.py SPEC_JSON eager|compiled fp32|bf16
Prints a line of JSON when it is ready. Then for every line "SECONDS STEPS" on standard input it trains for about that long,
at least that many steps, and prints {"steps", "seconds", "loss", "peakBytes"}.
"""

import json
import math
import sys
import time
import warnings

warnings.filterwarnings("ignore", message="Failed to initialize NumPy")

import torch
import torch.nn.functional as F
from torch import nn


def modulate(x, shift, scale):
    return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


def embedder(inputs, hidden):
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden))


class HeadNorm(nn.RMSNorm):
    """RMSNorm in the input's type: under autocast, an fp32 weight would keep PyTorch from its fused kernel."""

    def forward(self, x):
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class Stream(nn.Module):
    """One side (image or text) of a block."""

    def __init__(self, hidden, pre_only):
        super().__init__()
        self.pre_only = pre_only
        self.chunks = 2 if pre_only else 6
        self.norm1 = nn.LayerNorm(hidden, elementwise_affine=False, eps=1e-6)
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.ln_q = HeadNorm(64, eps=1e-6)
        self.ln_k = HeadNorm(64, eps=1e-6)
        self.ada = nn.Sequential(nn.SiLU(), nn.Linear(hidden, self.chunks * hidden))
        if not pre_only:
            self.proj = nn.Linear(hidden, hidden)
            self.norm2 = nn.LayerNorm(hidden, elementwise_affine=False, eps=1e-6)
            self.fc1 = nn.Linear(hidden, 4 * hidden)
            self.fc2 = nn.Linear(4 * hidden, hidden)

    def before(self, x, c):
        self_mod = self.ada(c).chunk(self.chunks, dim=-1)
        b, n, h = x.shape
        qkv = self.qkv(modulate(self.norm1(x), self_mod[0], self_mod[1]))
        q, k, v = qkv.view(b, n, 3, h // 64, 64).permute(2, 0, 3, 1, 4)
        return self.ln_q(q), self.ln_k(k), v, self_mod

    def after(self, x, attention, mod):
        x = x + mod[2].unsqueeze(1) * self.proj(attention)
        hidden = F.gelu(self.fc1(modulate(self.norm2(x), mod[3], mod[4])), approximate="tanh")
        return x + mod[5].unsqueeze(1) * self.fc2(hidden)


class Block(nn.Module):
    def __init__(self, hidden, last):
        super().__init__()
        self.text = Stream(hidden, last)
        self.image = Stream(hidden, False)

    def forward(self, text, image, c):
        tq, tk, tv, text_mod = self.text.before(text, c)
        iq, ik, iv, image_mod = self.image.before(image, c)
        q, k, v = torch.cat((tq, iq), 2), torch.cat((tk, ik), 2), torch.cat((tv, iv), 2)
        out = F.scaled_dot_product_attention(q, k, v.to(q.dtype))
        out = out.transpose(1, 2).flatten(2)
        m = text.shape[1]
        if not self.text.pre_only:
            text = self.text.after(text, out[:, :m], text_mod)
        return text, self.image.after(image, out[:, m:], image_mod)


class MMDiT(nn.Module):
    def __init__(self, s):
        super().__init__()
        h, p, c = s["hidden"], s["patch"], s["latentChannels"]
        self.patch, self.channels = p, c
        self.x_embedder = nn.Conv2d(c, h, p, stride=p)
        self.context_embedder = nn.Linear(s["contextDim"], h)
        self.t_embedder = embedder(256, h)
        self.y_embedder = embedder(s["pooledDim"], h)
        tokens = (s["latentHeight"] // p) * (s["latentWidth"] // p)
        self.register_buffer("position", torch.randn(1, tokens, h) * 0.02)
        self.register_buffer("frequency", torch.exp(-math.log(10000) * torch.arange(128) / 128))
        self.blocks = nn.ModuleList(Block(h, i == s["depth"] - 1) for i in range(s["depth"]))
        self.norm = nn.LayerNorm(h, elementwise_affine=False, eps=1e-6)
        self.ada = nn.Sequential(nn.SiLU(), nn.Linear(h, 2 * h))
        self.linear = nn.Linear(h, p * p * c)

    def forward(self, z, timestep, context, pooled):
        b, _, height, width = z.shape
        p = self.patch
        image = self.x_embedder(z).flatten(2).transpose(1, 2) + self.position
        angle = timestep[:, None] * self.frequency
        c = self.t_embedder(torch.cat((angle.cos(), angle.sin()), -1)) + self.y_embedder(pooled)
        text = self.context_embedder(context)
        for block in self.blocks:
            text, image = block(text, image, c)
        shift, scale = self.ada(c).chunk(2, dim=-1)
        out = self.linear(modulate(self.norm(image), shift, scale))
        out = out.view(b, height // p, width // p, p, p, self.channels)
        return out.permute(0, 5, 1, 3, 2, 4).reshape(z.shape)


def peak_bytes():
    """The most memory that this process had resident."""
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def main():
    spec, mode, precision = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
    torch.manual_seed(0)
    torch.set_num_threads(spec["threads"])
    torch.set_float32_matmul_precision(spec["fp32Matmul"])
    model = MMDiT(spec)
    forward = model
    if mode == "compiled":
        from torch._inductor import config

        config.cpp.simdlen = spec["simdBits"]
        forward = torch.compile(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    b = spec["batch"]
    latent = (b, spec["latentChannels"], spec["latentHeight"], spec["latentWidth"])
    batches = [
        (
            torch.randn(latent),
            torch.randn(b, spec["contextTokens"], spec["contextDim"]),
            torch.randn(b, spec["pooledDim"]),
        )
        for _ in range(2)
    ]

    def step(i):
        x0, context, pooled = batches[i % 2]
        t = torch.sigmoid(torch.randn(b))
        noise = torch.randn(latent)
        mix = t.view(-1, 1, 1, 1)
        z = (1 - mix) * x0 + mix * noise
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            v = forward(z, 1000 * t, context, pooled)
        loss = F.mse_loss(v.float(), noise - x0)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    for i in range(2):
        step(i)
    print(json.dumps({"parameters": sum(p.numel() for p in model.parameters())}), flush=True)
    for line in sys.stdin:
        limit, at_least = map(float, line.split())
        started, steps = time.perf_counter(), 0
        while True:
            loss = step(steps)
            steps += 1
            seconds = time.perf_counter() - started
            if seconds >= limit and steps >= at_least:
                break
        print(
            json.dumps({"steps": steps, "seconds": seconds, "loss": loss, "peakBytes": peak_bytes()}), flush=True
        )


if __name__ == "__main__":
    main()
