import { expect, test } from 'vitest';
import { loadConfig } from '../../../src/config/load.js';
import { checkDisk } from '../../../src/doctor/machine.js';
import { canonicalJson } from '../../../src/files/json.js';
import { hostReport, hostReportSchema } from '../../../src/launch/host-report.js';
import { native } from '../../../src/native/load.js';
import { temporaryFolder } from '../../support/folders.js';
import { TRAINING } from '../../support/launched.js';

const REQUEST = { config: canonicalJson(loadConfig(TRAINING)), data: null, plan: 2, workers: 1 };

test('a host tells its instruction set, the identity of its data set, and nothing else that is wrong', async () => {
  const report = await hostReport(REQUEST);
  expect(hostReportSchema.parse(report)).toEqual(report);
  const { isa, kernels } = native().host();
  expect(report).toMatchObject({
    problems: [],
    arithmetic: { isa, isas: expect.arrayContaining([isa]), kernels, gpus: '' },
  });
  expect(report.dataset).toMatch(/^[0-9a-f]{64}$/);
});

test('all that is wrong with a host is told at once', async () => {
  const gpu = canonicalJson({ ...loadConfig(TRAINING), device: 'cuda' });
  const { problems, dataset } = await hostReport({ ...REQUEST, config: gpu, data: temporaryFolder() });
  expect(dataset).toBe('');
  expect(problems).toEqual([expect.stringMatching(/CUDA/), expect.stringMatching(/is not a data set/)]);
  const { problems: unknown } = await hostReport({ ...REQUEST, config: '{"nonsense": 1}' });
  expect(unknown[0]).toContain('nonsense');
});

test('a disk is full below a given space', () => {
  expect(checkDisk(temporaryFolder(), 0).status).toBe('ok');
  expect(checkDisk(temporaryFolder(), Number.POSITIVE_INFINITY)).toMatchObject({
    status: 'warning',
    detail: expect.stringMatching(/ free in /),
  });
});
