// Writes the files that are made from the code (dist/ and build/cluster/ have to be current). --check only says which of them
// differ, and then exits 1.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { dashboardFiles } from '../build/cluster/cluster/grafana/files.js';
import { generatedFiles } from '../dist/reference/pages.js';

const check = process.argv.includes('--check');
const stale = [...(await generatedFiles()), ...dashboardFiles()].filter(
  ([path, text]) => !existsSync(path) || readFileSync(path, 'utf8') !== text,
);
for (const [path, text] of stale) {
  if (!check) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
  console.log(`${check ? 'not what the code says' : 'wrote'}: ${path}`);
}
if (check && stale.length > 0) {
  console.log('Run: npm run generate');
  process.exit(1);
}
