/** Bytes of which the first ones may have arrived. */
export class Arriving {
  #bytes: Uint8Array;
  #filled = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get bytes(): Uint8Array {
    return this.#bytes;
  }

  /** Others are to arrive, in this memory. */
  next(bytes: Uint8Array): void {
    this.#bytes = bytes;
    this.#filled = 0;
  }

  get complete(): boolean {
    return this.#filled === this.#bytes.byteLength;
  }

  /** Takes what is missing from the piece, which begins at `at`, and returns where the rest begins. */
  take(piece: Buffer, at: number): number {
    const end = Math.min(piece.length, at + this.#bytes.byteLength - this.#filled);
    this.#bytes.set(at === 0 && end === piece.length ? piece : piece.subarray(at, end), this.#filled);
    this.#filled += end - at;
    return end;
  }
}
