/** `orchestrator objective`, as a person calls it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { temporaryFolder } from '../support/folders.js';
import { orchestrator, succeeds } from '../support/program.js';

const shown = (...parameters: string[]) =>
  JSON.parse(succeeds(orchestrator('objective', ...parameters, '--json')));

describe('objective', () => {
  test('list has the 61 formulations of the study', () => {
    const list = shown('list');
    expect(list).toHaveLength(61);
    expect(list).toContainEqual({ name: 'edm(-1.2,1.2)', label: 'edm(-1.20,1.20)' });
  });

  test('show has the numbers of every t, or of those that are asked for', () => {
    const { name, rows, grid } = shown('show', 'rf/lognorm(0.50, 0.60)');
    expect(name).toBe('rf/lognorm(0.5,0.6)');
    expect([rows.length, rows[0].t, rows.at(-1).t, grid]).toEqual([999, 0.001, 0.999, null]);
    expect(Object.keys(rows[0])).toEqual([
      ...['t', 'a', 'b', 'log_snr', 'log_snr_derivative', 'density', 'w', 'target', 'input'],
      ...['loss_weight', 'timestep', 'effective_weight'],
    ]);
    expect(shown('show', 'v/linear').rows).toHaveLength(1000);
    const two = shown('show', 'rf', '--t', '0, 0.25', '--shift', '3', '--steps', '2');
    expect(two.rows.map(({ t, b, log_snr }: Record<string, number>) => [t, b, log_snr])).toEqual([
      [0, 0, null],
      [0.25, 0.5, 0],
    ]);
    expect(two.grid.map(({ b }: Record<string, number>) => b)).toEqual([1, 0.75, 0]);
  });

  test('show prints a page, and draws a chart', () => {
    const chart = join(temporaryFolder(), 'out.svg');
    const page = succeeds(orchestrator('objective', 'show', 'edm/rf', '--steps', '3', '--plot', chart));
    expect(page).toMatch(/^edm\/rf, shift 1\nt +z +log-SNR/);
    expect(page).toMatch(/^0 +999 +-13\.81\d* +1726\.\d* +0\.001\d* x0 \+ 1 eps$/m);
    expect(readFileSync(chart, 'utf8')).toContain('edm/rf: log-SNR');
  });

  test.each([
    [['show', 'rf/lognrm(0,1)'], /received "rf\/lognrm\(0,1\)"; did you mean rf\/lognorm\(m,s\)/],
    [['show', 'rf/mode(1.76)'], /expected s of rf\/mode\(s\) to be from -1 to 1\.7519/],
    [['show', 'rf', '--t', '0.1,1.5'], /Expected numbers from 0 to 1, separated by commas/],
    [['show', 'v/cos', '--steps', '4', '--schedule', 'karras'], /ERR_USAGE: --schedule karras: /],
    [['show', 'rf', '--plot', 'out.gif'], /Expected a name that ends in \.svg, \.png/],
  ])('%j is refused', (parameters, words) => {
    const { status, stderr } = orchestrator('objective', ...parameters);
    expect(status).toBe(2);
    expect(stderr).toMatch(words);
  });
});
