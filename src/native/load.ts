/** Finds and loads the native addon, once. */
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { OrchestratorError } from '../errors.js';
import type { NativeAddon } from './contract.js';

/** The addon's file; ORCHESTRATOR_ADDON names another one. Works from src/ and from dist/. */
export function addonPath(): string {
  const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');
  return process.env.ORCHESTRATOR_ADDON ?? path.join(root, 'build', 'Release', 'orchestrator.node');
}

let loaded: NativeAddon | null = null;
let loadedFrom = '';

/** Whether this process has loaded it: it need not be tried in another one. */
export function isNativeLoaded(): boolean {
  return loaded !== null && loadedFrom === addonPath();
}

/** The addon, loaded at the first call. */
export function native(): NativeAddon {
  if (loaded !== null) return loaded;
  const file = addonPath();
  try {
    loaded = createRequire(import.meta.url)(file) as NativeAddon;
    loadedFrom = file;
  } catch (cause) {
    throw new OrchestratorError(
      'ERR_NATIVE_MISSING',
      `Cannot load the native addon ${file}: ${(cause as Error).message}`,
      {
        hint: 'Run `npm run setup` to build it, or `orchestrator doctor` to see what is missing',
        cause,
      },
    );
  }
  return loaded;
}
