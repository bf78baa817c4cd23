/** Limits a PyTorch process to the instruction set in ORCHESTRATOR_ISA. */

export interface Held {
  /** Environment variables for the kernels of ATen, oneDNN and MKL, and for TorchInductor's compiler. */
  environment: Record<string, string>;
  /** Width of the vectors in TorchInductor's C++; null = it chooses. */
  simdBits: number | null;
  /** The expected result of torch.backends.cpu.get_cpu_capability(); null = any. */
  capability: string | null;
}

const FREE: Held = { environment: {}, simdBits: null, capability: null };

const HELD: Record<string, Held> = {
  generic: held('default', 'SSE41', 'SSE4_2', 'x86-64', 1),
  avx2: held('avx2', 'AVX2', 'AVX2', 'x86-64-v3', 256),
  avx512: held('avx512', 'AVX512_CORE', 'AVX512', 'x86-64-v4', 512),
  avx512bf16: held('avx512', 'AVX512_CORE_BF16', 'AVX512_E3', 'cooperlake', 512),
};

/** @param isa ORCHESTRATOR_ISA; without it, PyTorch uses the best instruction set of the machine. */
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
