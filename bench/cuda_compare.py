"""Whole training steps on a GPU beside PyTorch, interleaved: ours, PyTorch's, ours, PyTorch's; or one program after
the other, if the GPU's memory does not hold both.

Usage: cuda_compare.py ORCH_BENCH SECONDS SHAPE...
where SHAPE is depth,pixels,samples[,recompute][xSLOTS[xMICRO_BATCHES]], such as 24,512,8 or 24,512,8x8: slots of a step, and
micro-batches of a slot. For PyTorch, all of them are micro-batches of gradient accumulation.
Each shape runs twice: against torch.compile with the default attention, and with cuDNN's (ATTENTION names one of them).
Prints a table in Markdown.
"""

import json
import math
import os
import statistics
import subprocess
import sys

ROUNDS = 3
TEXT_TOKENS = 154
DATASHEET_PEAK = 989e12


class Program:
    """A process that is told "SECONDS" and answers with a line of JSON."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ready = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"it ended with {self.process.wait()}")
        return json.loads(line)

    def run(self, seconds):
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def compare(bench, seconds, shape, attention):
    shape_of_slot, *sizes = shape.split("x")
    depth, pixels, samples = (int(x) for x in shape_of_slot.split(",")[:3])
    spec = {
        "depth": depth,
        "hidden": 64 * depth,
        "patch": 2,
        "latentChannels": 16,
        "latentHeight": pixels // 8,
        "latentWidth": pixels // 8,
        "contextTokens": TEXT_TOKENS,
        "contextDim": 4096,
        "pooledDim": 2048,
        "batch": samples,
    }
    peer_file = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers", "mmdit_torch_cuda.py")
    ours = Program([bench, "--cuda", "steps", shape_of_slot, *sizes])
    command = [sys.executable, peer_file, json.dumps(spec), "blocks", attention, str(math.prod(int(n) for n in sizes))]
    times = {"ours": [], "peer": []}
    memory = {"ours": 0, "peer": 0}
    slots, statistics_share = [], []

    def run_ours():
        r = ours.run(seconds)
        times["ours"].append(r["seconds"] / r["steps"])
        slots.append(r["slotSeconds"])
        statistics_share.append(r["withStatistics"] / r["slotSeconds"] - 1)
        memory["ours"] = max(memory["ours"], r["bytes"])

    def run_peer():
        r = peer.run(seconds)
        times["peer"].append(r["seconds"] / r["steps"])
        memory["peer"] = max(memory["peer"], r["peakBytes"])

    try:
        peer = Program(command)
        together = True
    except Exception:  # such as: not enough memory beside ours
        together = False
    note = "" if together else ", one after the other"
    for _ in range(ROUNDS):
        run_ours()
        if together:
            run_peer()
    ours.close()
    if not together:
        try:
            peer = Program(command)
        except Exception:  # it does not fit even alone
            peer = Program([*command, "checkpoint"])
            note += ", blocks recomputed by PyTorch"
        for _ in range(ROUNDS):
            run_peer()
    peer.close()
    flops = ours.ready["flops"]
    about = f"{peer.ready['torch']}, cuDNN {peer.ready['cudnn']}" + note
    step, slot = statistics.median(times["ours"]), statistics.median(slots)
    other = statistics.median(times["peer"])
    print(
        f"| {shape} | {attention} | {step * 1e3:.1f} | {flops / step * 1e-12:.0f} | {100 * flops / step / DATASHEET_PEAK:.1f} % "
        f"| {slot * 1e3:.1f} | {100 * statistics.median(statistics_share):.1f} % | {memory['ours'] / 2**30:.1f} | {other * 1e3:.1f} | {flops / other * 1e-12:.0f} "
        f"| {memory['peer'] / 2**30:.1f} | {other / step:.3f} | {about} |",
        flush=True,
    )


def main():
    bench, seconds, shapes = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
    print("| depth,pixels,samples[xslots[xmicro-batches]] | PyTorch's attention | ours ms | TFLOP/s | MFU (989) | slot ms | attention statistics | GiB | PyTorch ms | TFLOP/s | GiB | ours is faster by | PyTorch |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for shape in shapes:
        for attention in os.environ.get("ATTENTION", "default,cudnn").split(","):
            try:
                compare(bench, seconds, shape, attention)
            except Exception as error:
                print(f"| {shape} | {attention} | failed: {error} |", flush=True)


if __name__ == "__main__":
    main()
