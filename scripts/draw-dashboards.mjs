// Draws the dashboards from the answers of a Prometheus that has scraped runs, as PNG:
//
//   npm run --silent build:cluster && node scripts/draw-dashboards.mjs http://localhost:9090 MINUTES FOLDER
//
// They show the last MINUTES.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

// Text is set in the project's font alone, so that pictures look the same on every machine.
const settings = mkdtempSync(join(tmpdir(), 'fonts-'));
const dir = (path) => `<dir>${path}</dir>`;
writeFileSync(
  join(settings, 'fonts.conf'),
  `<fontconfig>${dir(resolve('assets/font'))}<cachedir>${settings}</cachedir></fontconfig>`,
);
process.env.FONTCONFIG_FILE = join(settings, 'fonts.conf');

const { default: sharp } = await import('sharp');
const { BOARDS } = await import('../build/cluster/cluster/grafana/boards/all.js');
const { askFor } = await import('../build/cluster/cluster/grafana/drawing/answers.js');
const { drawBoard } = await import('../build/cluster/cluster/grafana/drawing/page.js');

const [address, minutes, folder] = process.argv.slice(2);
const to = Math.floor(Date.now() / 1000);
const from = to - 60 * Number(minutes);
const span = { from, to, step: Math.max(1, Math.round((to - from) / 240)) };
try {
  for (const board of BOARDS) {
    const path = join(folder, `${board.uid.replace('orchestrator-', 'dashboard-')}.png`);
    const svg = drawBoard(board, await askFor(board, address, span));
    await sharp(Buffer.from(svg)).png({ palette: true, colours: 128, effort: 10 }).toFile(path);
    console.log(`wrote ${path}`);
  }
} finally {
  rmSync(settings, { recursive: true, force: true });
}
