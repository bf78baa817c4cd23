import { spawnSync } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../../support/folders.js';

const bin = temporaryFolder();

test.each(['18.20.8', '20.18.3', '21.7.3', '22.11.0', '23.5.0'])('set-up refuses Node.js %s', (version) => {
  const versions = `{ ...process.versions, node: ${JSON.stringify(version)} }`;
  writeFileSync(
    join(bin, 'version.cjs'),
    `Object.defineProperty(process, 'versions', { value: ${versions} });`,
  );
  writeFileSync(
    join(bin, 'node'),
    `#!/bin/sh\nexec "${process.execPath}" --require "${bin}/version.cjs" "$@"\n`,
  );
  chmodSync(join(bin, 'node'), 0o755);
  const env = { ...process.env, PATH: `${bin}:${process.env.PATH}` };
  const { status, stderr } = spawnSync('bash', ['scripts/setup.sh'], { encoding: 'utf8', env });
  expect(stderr).toMatch(
    /^Node\.js 22 \(22\.12 or newer\), 24, or 20 \(20\.19 or newer\) and npm are needed/,
  );
  expect(status).toBe(2);
});
