import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { loadConfig } from '../../src/config/load.js';
import { OrchestratorError } from '../../src/errors.js';
import { temporaryFolder } from './folders.js';

/** Writes a configuration file of its own and returns its path. */
export function yaml(text: string): string {
  const path = join(temporaryFolder(), 'config.yaml');
  writeFileSync(path, text);
  return path;
}

/** The lines of the ERR_CONFIG that loading must throw, with the file's name shortened to FILE. */
export function problems(text: string, flags: string[] = [], environment: NodeJS.ProcessEnv = {}): string[] {
  const path = yaml(text);
  try {
    loadConfig(path, flags, environment);
  } catch (error) {
    expect(error).toBeInstanceOf(OrchestratorError);
    expect((error as OrchestratorError).code).toBe('ERR_CONFIG');
    const lines = (error as OrchestratorError).message
      .split('\n')
      .filter((line) => !/^ +\d* \| /.test(line)) // the lines of the file that are shown
      .map((line) => line.replaceAll(path, 'FILE'));
    return lines.length === 1 ? lines : lines.slice(1);
  }
  throw new Error('expected ERR_CONFIG');
}

export const MINIMAL = 'name: x\ndata: {path: d}\n';
