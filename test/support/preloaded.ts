/** Libraries that are preloaded into the processes of a run, so that its system fails. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { temporaryFolder } from './folders.js';

export interface Preloaded {
  /** For LD_PRELOAD. */
  library: string;
  /** Why there can be none; null where there can. */
  missing: string | null;
}

/** Compiles a source of test/support. */
export function preloaded(name: string): Preloaded {
  const library = join(temporaryFolder(), `${name}.so`);
  const source = `test/support/${name}.c`;
  try {
    execFileSync('gcc', ['-shared', '-fPIC', '-O1', '-o', library, source, '-ldl'], { stdio: 'pipe' });
    return { library, missing: null };
  } catch (error) {
    const why = String((error as { stderr?: Buffer }).stderr ?? error).split('\n')[0];
    return { library, missing: `needs gcc, which says ${why}` };
  }
}
