/** The addon with fault points (native/faults). */
import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';

export const FAULT_ADDON = resolve('build-faults/orchestrator.node');
/** Why a test cannot use it; null: it can. */
export const noFaultAddon = existsSync(FAULT_ADDON)
  ? null
  : 'needs build-faults/, of `bash scripts/build-native.sh --faults`';

/** Points of native code, as its list there has them, in order. */
export const NATIVE_POINTS = [
  ...readFileSync('native/faults/faults.h', 'utf8').matchAll(/\bX\((\w+)\)\s+\/\*/g),
].map(([, name]) => name!);
