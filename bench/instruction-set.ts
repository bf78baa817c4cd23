/** Holds a PyTorch process to the instruction set that ORCHESTRATOR_ISA names. */

export interface Held {
  /** Variables of its environment: ATen's kernels, oneDNN's, MKL's, and what TorchInductor's C++ is compiled for. */
  environment: Record<string, string>;
  /** Width of the vectors in TorchInductor's C++; null: it chooses. */
  simdBits: number | null;
  /** What torch.backends.cpu.get_cpu_capability() has to say then; null: whatever it says. */
  capability: string | null;
}

const FREE: Held = { environment: {}, simdBits: null, capability: null };

const HELD: Record<string, Held> = {
  generic: held('default', 'SSE41', 'SSE4_2', 'x86-64', 1),
  avx2: held('avx2', 'AVX2', 'AVX2', 'x86-64-v3', 256),
  avx512: held('avx512', 'AVX512_CORE', 'AVX512', 'x86-64-v4', 512),
  avx512bf16: held('avx512', 'AVX512_CORE_BF16', 'AVX512_E3', 'cooperlake', 512),
};

/** @param isa ORCHESTRATOR_ISA. Without it PyTorch takes what the machine has. */
export function heldTo(isa: string | undefined): Held {
  return HELD[isa ?? ''] ?? FREE;
}

function held(aten: string, onednn: string, mkl: string, march: string, simdBits: number): Held {
  const environment = {
    ATEN_CPU_CAPABILITY: aten,
    ONEDNN_MAX_CPU_ISA: onednn,
    MKL_ENABLE_INSTRUCTIONS: mkl,
    TORCHINDUCTOR_CPP_MARCH: march,
  };
  return { environment, simdBits, capability: aten.toUpperCase() };
}
