/** What a test needs and a minimal machine may lack: such a test is skipped aloud, with what is missing. */
import { accessSync, constants, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';

const LIST = 'scripts/packages-test.txt';

/**
 * Null where the program is in PATH, else "needs PROGRAM (Debian package NAME)". The program must be in the
 * list of test packages.
 */
export function needs(program: string): string | null {
  const owner = packageOf(program);
  return pathOf(program) === null ? `needs ${program} (Debian package ${owner})` : null;
}

/** Where a program is; null: it is not in PATH. */
export function pathOf(program: string): string | null {
  const files = (process.env.PATH ?? '').split(delimiter).map((folder) => join(folder, program));
  return files.find(executable) ?? null;
}

/**
 * `test.skipIf(reason)(because(name, reason), ...)`: the name then tells the reason, which the sum of the
 * tests prints.
 */
export function because(name: string, reason: string | null): string {
  return reason === null ? name : `${name} [${reason}]`;
}

function packageOf(program: string): string {
  for (const line of readFileSync(LIST, 'utf8').split('\n')) {
    const [names, programs] = line.split(' ');
    if (!line.startsWith('#') && programs?.split('|').includes(program))
      return names!.replaceAll('|', ' or ');
  }
  throw new Error(`${program} is not in ${LIST}: add it with its package`);
}

function executable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
