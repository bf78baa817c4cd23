import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { shellText } from '../../../src/text/shell.js';

test('a shell runs the text as the command, with its environment', () => {
  const words = ["it's", '$HOME `x`', 'a b', '', '*'];
  const script = 'process.stdout.write(JSON.stringify([process.env.WORDS, ...process.argv.slice(1)]))';
  const text = shellText([process.execPath, '-e', script, ...words], { WORDS: "an 'other' $x" });
  const { stdout } = spawnSync('sh', ['-c', text], { encoding: 'utf8' });
  expect(JSON.parse(stdout)).toEqual(["an 'other' $x", ...words]);
});
