import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
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
  expect(problems.map(({ message }) => message)).toEqual([
    expect.stringMatching(/CUDA/),
    expect.stringMatching(/is not a data set/),
  ]);
  const { problems: unknown } = await hostReport({ ...REQUEST, config: '{"nonsense": 1}' });
  expect(unknown[0]!.message).toContain('nonsense');
});

test('a host without the data set is to get that of the run, and is not told to make one', async () => {
  const data = join(temporaryFolder(), 'shapes');
  expect((await hostReport({ ...REQUEST, data })).problems).toEqual([
    {
      message: `There is no data set at ${data}`,
      hint: 'Copy the data set of the run there, or say where that machine has it: data=FOLDER in a hostfile',
    },
  ]);
});

test('a host without the addon is told what to run', async () => {
  const path = join(temporaryFolder(), 'orchestrator.node');
  vi.stubEnv('ORCHESTRATOR_ADDON', path);
  onTestFinished(() => void vi.unstubAllEnvs());
  const { problems } = await hostReport({ config: null, data: null, plan: null, workers: 1 });
  expect(problems).toEqual([{ message: `its addon: ${path} is missing`, hint: 'Run there: npm run setup' }]);
});

test('a host whose disk cannot be written to is told how much a worker needs', async () => {
  const folder = temporaryFolder();
  vi.spyOn(process, 'cwd').mockReturnValue(join(folder, 'gone'));
  onTestFinished(() => void vi.restoreAllMocks());
  const { problems } = await hostReport({ config: null, data: null, plan: null, workers: 1 });
  expect(problems[0]).toEqual({
    message: `its disk: ${join(folder, 'gone')} cannot be read`,
    hint: expect.stringMatching(/^A worker needs 16\.0 MiB there, .* dir=FOLDER in a hostfile$/),
  });
});

test('a disk is full below a given space', () => {
  expect(checkDisk(temporaryFolder(), 0).status).toBe('ok');
  expect(checkDisk(temporaryFolder(), Number.POSITIVE_INFINITY)).toMatchObject({
    status: 'warning',
    detail: expect.stringMatching(/ free in /),
  });
});
