/** Whatever bytes are in a file or come from another process, they are read or refused in words (test/support/fuzz.ts). */
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import type fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MANIFEST, readManifest } from '../../../src/checkpoint/manifest.js';
import { loadConfig, parseConfig } from '../../../src/config/load.js';
import { openDataset } from '../../../src/data/dataset.js';
import { readArrow } from '../../../src/formats/arrow/file.js';
import { Safetensors } from '../../../src/formats/safetensors/file.js';
import { encodeHeader, parseHeader } from '../../../src/formats/safetensors/header.js';
import { openIndex } from '../../../src/formats/safetensors/shard-index.js';
import { type HostEntry, parseHostfile, parseHosts } from '../../../src/launch/hosts.js';
import { Coordinator } from '../../../src/rpc/proto.js';
import { PROTOCOL } from '../../../src/rpc/protocol.js';
import { recordedRows } from '../../../src/run-folder/ledger-file.js';
import { recordedCurves, recordedRun } from '../../../src/run-folder/recorded-run.js';
import { journalOf } from '../../../src/run-folder/run-dir.js';
import { Authority } from '../../../src/security/authority.js';
import { formatCredential, parseCredential } from '../../../src/security/credential.js';
import { Enrolments } from '../../../src/security/enrolment.js';
import { newKey } from '../../../src/security/keys.js';
import { Tokens } from '../../../src/security/tokens.js';
import { allPrintable } from '../../../src/text/printable.js';
import { MINIMAL } from '../../support/config.js';
import { temporaryFolder } from '../../support/folders.js';
import { FUZZ_MS, fuzz, mutants } from '../../support/fuzz.js';
import { JOIN } from '../../support/join.js';
import { prepared, ready } from '../../support/rule-script.js';

const RUN = 'test/fixtures/runs/f61e27f';
const folder = temporaryFolder();

/** A property of the parser with this name. */
const parser = (name: string, inputs: fc.Arbitrary<Buffer>, read: (bytes: Buffer, name: string) => unknown) =>
  test(name, () => fuzz(name, inputs, (bytes) => read(bytes, name)), FUZZ_MS);

/** The same for one that reads a file. */
const fileParser = (name: string, file: string, seeds: Buffer | string, read: (path: string) => unknown) => {
  const path = join(folder, file);
  parser(name, mutants(seeds), (bytes) => {
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, bytes);
    return read(path);
  });
};

describe('files', () => {
  fileParser('configuration', 'config.yaml', readFileSync('configs/shapes-tiny.yaml'), (path) =>
    loadConfig(path, [], {}),
  );
  parser('stored configuration', mutants(MINIMAL, readFileSync(`${RUN}/run/config.yaml`)), (bytes, name) =>
    parseConfig(bytes.toString(), name),
  );
  parser('--set', mutants('optimizer.lr=1e-3', 'validation.weights=[master, ema]', 'a.b={c: 1}'), (bytes) =>
    loadConfig('configs/shapes-tiny.yaml', [bytes.toString()], {}),
  );
  fileParser('Arrow', 'data.arrow', readFileSync('test/fixtures/columns/captions.arrow'), readArrow);
  fileParser(
    'manifest of a data set',
    'data/manifest.json',
    readFileSync(`${RUN}/data/manifest.json`),
    async () => {
      cpSync(`${RUN}/data/shard-00000.arrow`, join(folder, 'data/shard-00000.arrow'));
      await openDataset({ ...parseConfig(MINIMAL, 'x').data, path: join(folder, 'data') });
    },
  );
  const step = `${RUN}/run/checkpoints/step-00000004`;
  fileParser(
    'manifest of a checkpoint',
    `checkpoint/${MANIFEST}`,
    readFileSync(join(step, MANIFEST)),
    (path) => readManifest(join(path, '..')),
  );
  const { header } = encodeHeader(
    [
      { name: 'a', dtype: 'F32', shape: [2, 3] },
      { name: 'b.weight', dtype: 'BF16', shape: [4] },
    ],
    { format: 'pt' },
  );
  parser('header of safetensors', mutants(Buffer.from(header).subarray(8)), (bytes, name) =>
    parseHeader(bytes, 32, name),
  );
  const tensors = Buffer.concat([header, Buffer.alloc(32)]);
  fileParser('safetensors', 'x.safetensors', tensors, async (path) => {
    const file = await Safetensors.open(path);
    await file.close();
  });
  fileParser(
    'index of safetensors',
    'x.safetensors.index.json',
    JSON.stringify({ metadata: {}, weight_map: { a: 'y.safetensors', 'b.weight': 'y.safetensors' } }),
    async (path) => {
      writeFileSync(join(folder, 'y.safetensors'), tensors);
      const files = await openIndex(path);
      for (const { handle } of new Set(files.values())) await handle.close();
    },
  );
});

describe('hosts of a run', () => {
  const expectHosts = (hosts: readonly HostEntry[]) => {
    for (const { user, host } of hosts) {
      // ssh takes neither of them for an option.
      expect(host).toMatch(/^[\w:.][\w.:%-]*$/);
      if (user !== null) expect(user).toMatch(/^\w/);
    }
  };
  parser('--hosts', mutants('a, b:2,root@c.example.org,[fe80::1%eth0]:3', '-o,a'), (bytes) =>
    expectHosts(parseHosts(bytes.toString())),
  );
  parser('hostfile', mutants('a slots=4\nroot@[::1]:22 dir=/x data=d # c\n', '-o@$(x)'), (bytes, name) =>
    expectHosts(parseHostfile(bytes.toString(), name)),
  );
});

describe('run folders', () => {
  const runDir = join(folder, 'run');
  const inRun = (name: string, read: (runDir: string) => unknown) => {
    const whole = readFileSync(`${RUN}/run/${name}`);
    fileParser(`run/${name}`, `run/${name}`, whole, async () => {
      try {
        await read(runDir);
      } finally {
        writeFileSync(join(runDir, name), whole);
      }
    });
  };
  beforeAll(() => cpSync(`${RUN}/run`, runDir, { recursive: true }));
  inRun('journal.jsonl', async (path) => {
    journalOf(path);
    await recordedRun(path);
  });
  inRun('ledger.jsonl', (path) => recordedRows(path, 1, 4));
  inRun('metrics.jsonl', async (path) => {
    recordedCurves(path, 4);
    await recordedRun(path);
  });
  inRun('run.log', recordedRun);
  inRun('config.yaml', recordedRun);
});

describe('other processes', () => {
  const fingerprint = 'f0'.repeat(32);
  const line = formatCredential({
    address: '[::1]:29500',
    enrolment: { token: 'a'.repeat(43), fingerprint },
  });
  parser('credential', mutants(line, 'unix-abstract:orchestrator-1'), (bytes) =>
    parseCredential(bytes.toString(), 'x'),
  );

  const { serialize, deserialize } = {
    serialize: Coordinator.service.Session.requestSerialize,
    deserialize: Coordinator.service.Session.requestDeserialize,
  };
  const message = (body: object) => Buffer.from(serialize({ generation: 1, ...body }));
  const seeds = [
    message({ join: JOIN }),
    message({ prepared: prepared(1, [0, 1]) }),
    message({ ready: ready() }),
    message({ failure: { code: 'ERR_X', message: 'm', hint: 'h' } }),
    message({ formed: { device: { gpu: 'g', library: 'l', uniqueId: 'u', problem: '' } } }),
  ];
  parser('messages', mutants(...seeds), (bytes) => {
    let decoded: object;
    try {
      decoded = deserialize(bytes);
    } catch {
      // gRPC answers with a status.
      return;
    }
    allPrintable(decoded);
  });

  let tokens: Tokens;
  let enrolments: Enrolments;
  let token: string;
  beforeAll(async () => {
    const authority = await Authority.create();
    tokens = new Tokens(join(folder, 'enrolment.jsonl'));
    token = tokens.issue({ uses: 1e6, seconds: 3_600, worker: null });
    enrolments = new Enrolments({ authority, tokens, protocol: PROTOCOL });
  });
  afterAll(() => tokens.close());
  const request = () =>
    `${JSON.stringify({ protocol: PROTOCOL, token, worker: 'w', key: newKey().publicKey.toString('base64') })}\n`;
  test(
    'line of an enrolment',
    () =>
      fuzz('line of an enrolment', mutants(request()), async (bytes) => {
        const socket = new Duplex({ read: () => {}, write: (_, __, done) => done() });
        socket.on('error', () => {});
        for (const piece of [bytes, Buffer.from('\n')]) socket.push(piece);
        await enrolments.answer(socket as TLSSocket);
        socket.destroy();
      }),
    FUZZ_MS,
  );

  const path = join(folder, 'tokens.jsonl');
  const kept = new Tokens(path);
  const issued = kept.issue({ uses: 3, seconds: 3_600, worker: 'local-1' });
  kept.use(issued, Buffer.from('key'), 'w');
  kept.close();
  fileParser('tokens', 'tokens.jsonl', readFileSync(path), (file) => {
    const tokens = new Tokens(file);
    try {
      tokens.use(issued, Buffer.from('another key'), 'w');
      tokens.issue({ uses: 1, seconds: 60, worker: null });
    } finally {
      tokens.close();
    }
  });
});
