import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { open, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { convertToFloat32 } from '../../../src/formats/safetensors/dtype.js';
import { Safetensors } from '../../../src/formats/safetensors/file.js';
import { MAX_HEADER_BYTES } from '../../../src/formats/safetensors/header.js';
import { type TensorSource, writeSafetensors } from '../../../src/formats/safetensors/write.js';
import { sameBytes } from '../../support/checkpoints.js';
import { temporaryFolder } from '../../support/folders.js';
import { generator } from '../../support/random.js';

/** A file of a given header text and data, as another program would write it. */
async function fileOf(header: string | Uint8Array, data: Uint8Array): Promise<string> {
  const path = join(temporaryFolder(), 'x.safetensors');
  const text = typeof header === 'string' ? Buffer.from(header) : header;
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  await writeFile(path, Buffer.concat([length, text, data]));
  return path;
}

async function refusal(path: string): Promise<string> {
  try {
    await (await Safetensors.open(path)).close();
  } catch (error) {
    expect(error).toMatchObject({ name: 'OrchestratorError', code: 'ERR_SAFETENSORS' });
    expect((error as Error).message).toContain(path);
    return (error as Error).message;
  }
  throw new Error('the file was accepted');
}

describe('writing and reading', () => {
  const random = generator(1);
  const values = Float32Array.from({ length: 700_001 }, () => random() - 0.5);
  const tensors: TensorSource[] = [
    { name: 'half', dtype: 'F16', shape: [3], data: Uint16Array.of(0x3c00, 0xc000, 0x0001) },
    { name: 'big', dtype: 'F32', shape: [700_001], data: values },
    { name: 'scalar', dtype: 'F32', shape: [], data: Float32Array.of(7) },
    { name: 'none', dtype: 'F32', shape: [4, 0], data: new Float32Array(0) },
    { name: 'brain', dtype: 'BF16', shape: [2, 1], data: Uint16Array.of(0x3f80, 0xff80) },
    { name: 'wide', dtype: 'F64', shape: [2], data: Float64Array.of(1 / 3, -1e300) },
    { name: 'naïve "ключ"\n', dtype: 'F32', shape: [1], data: Float32Array.of(-0) },
    { name: 'count', dtype: 'I64', shape: [1], data: BigInt64Array.of(5n) },
  ];

  test('round-trips every tensor, and says the hash and size that the file has', async () => {
    const path = join(temporaryFolder(), 'w.safetensors');
    const written = await writeSafetensors(path, tensors, { format: 'pt', note: 'über' });
    const bytes = await readFile(path);
    expect(written).toEqual({
      bytes: bytes.length,
      sha256: createHash('sha256').update(bytes).digest('hex'),
    });
    const file = await Safetensors.open(path);
    expect(new Set(file.tensors.keys())).toEqual(new Set(tensors.map(({ name }) => name)));
    expect(Object.fromEntries(file.metadata)).toEqual({ format: 'pt', note: 'über' });
    for (const { begin, dtype, name } of file.tensors.values()) {
      const width = { F64: 8, I64: 8, F32: 4, F16: 2, BF16: 2 }[dtype as 'F64'];
      expect((bytes.readUInt32LE(0) + 8 + begin) % width, `alignment of ${name}`).toBe(0);
    }
    expect((8 + bytes.readUInt32LE(0)) % 64).toBe(0);
    expect(sameBytes(await file.read('big'), values)).toBe(true);
    expect(await file.read('scalar')).toEqual(Float32Array.of(7));
    expect(await file.read('none')).toEqual(new Float32Array(0));
    expect(await file.read('half')).toEqual(Float32Array.of(1, -2, 2 ** -24));
    expect(await file.read('brain')).toEqual(Float32Array.of(1, -Infinity));
    expect(await file.read('wide')).toEqual(Float32Array.of(Math.fround(1 / 3), -Infinity));
    expect(Object.is((await file.read('naïve "ключ"\n'))[0], -0)).toBe(true);
    await file.close();
  });

  test('takes any number of escapes in the metadata', async () => {
    const path = join(temporaryFolder(), 'w.safetensors');
    const note = '"'.repeat(8_000_000);
    await writeSafetensors(path, tensors, { note });
    const file = await Safetensors.open(path);
    expect(file.metadata.get('note') === note).toBe(true);
    await file.close();
  });

  test('fills arrays in one pass over the file, hashing all of it', async () => {
    const path = join(temporaryFolder(), 'w.safetensors');
    const written = await writeSafetensors(path, tensors, {});
    const file = await Safetensors.open(path);
    const flat = new Float32Array(700_100).fill(9);
    const target = flat.subarray(16, 16 + 700_001);
    const half = new Float32Array(3);
    expect(
      await file.readAll(
        new Map([
          ['big', target],
          ['half', half],
        ]),
      ),
    ).toBe(written.sha256);
    expect(sameBytes(target, values)).toBe(true);
    expect(flat[15]).toBe(9);
    expect(flat[16 + 700_001]).toBe(9);
    expect(half[1]).toBe(-2);
    await file.close();
  });

  test('refuses targets that do not fit, types without fp32, and missing names', async () => {
    const path = join(temporaryFolder(), 'w.safetensors');
    await writeSafetensors(path, tensors, {});
    const file = await Safetensors.open(path);
    const short = new Map([['big', new Float32Array(3)]]);
    await expect(file.readAll(short)).rejects.toThrow(/"big".*\[700001\].*expected 3/);
    await expect(file.read('count')).rejects.toThrow(/"count" is of type I64/);
    await expect(file.read('other')).rejects.toThrow(/no tensor "other"/);
    await expect(file.readAll(new Map([['other', half()]]))).rejects.toThrow(/no tensor "other"/);
    await file.close();
    function half() {
      return new Float32Array(1);
    }
  });

  test('does not overwrite, and refuses repeated names and data of another size', async () => {
    const path = join(temporaryFolder(), 'w.safetensors');
    await writeSafetensors(path, tensors, {});
    await expect(writeSafetensors(path, tensors, {})).rejects.toMatchObject({ code: 'ERR_FILE_WRITE' });
    const one: TensorSource = { name: 'a', dtype: 'F32', shape: [1], data: new Float32Array(1) };
    await expect(writeSafetensors(`${path}2`, [one, one], {})).rejects.toMatchObject({
      code: 'ERR_INTERNAL',
    });
    await expect(writeSafetensors(`${path}3`, [{ ...one, shape: [2] }], {})).rejects.toMatchObject({
      code: 'ERR_INTERNAL',
    });
  });

  test('leaves the event loop free while it writes and hashes 96 MB', async () => {
    const path = join(temporaryFolder(), 'w.safetensors');
    const data = new Float32Array(24 << 20);
    let turns = 0;
    let immediate: NodeJS.Immediate;
    const turn = () => {
      turns++;
      immediate = setImmediate(turn);
    };
    turn();
    await writeSafetensors(path, [{ name: 'a', dtype: 'F32', shape: [data.length], data }], {});
    const file = await Safetensors.open(path);
    await file.readAll(new Map([['a', data]]));
    await file.close();
    clearImmediate(immediate!);
    // The loop turns between chunks: 96 of them each way.
    expect(turns).toBeGreaterThan(2 * 96);
  });
});

describe('conversion', () => {
  test('converts every half as its definition says', () => {
    const halves = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const out = new Float32Array(65536);
    convertToFloat32('F16', new Uint8Array(halves.buffer), out);
    for (let half = 0; half < 65536; half++) {
      const sign = half & 0x8000 ? -1 : 1;
      const exponent = (half >> 10) & 31;
      const mantissa = half & 1023;
      const expected =
        exponent === 31
          ? mantissa === 0
            ? sign * Infinity
            : Number.NaN
          : exponent === 0
            ? sign * mantissa * 2 ** -24
            : sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
      if (!Object.is(out[half], expected)) expect.fail(`half ${half}: ${out[half]}, expected ${expected}`);
    }
  });

  test('keeps the payload of a NaN', () => {
    const out = new Float32Array(1);
    convertToFloat32('BF16', new Uint8Array(Uint16Array.of(0x7fa5).buffer), out);
    expect(new Uint32Array(out.buffer)[0]).toBe(0x7fa50000);
  });
});

describe('malformed files', () => {
  const four = new Uint8Array(4);
  const entry = (shape: string, offsets: string, dtype = 'F32') =>
    `{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}`;
  const ok = entry('[1]', '[0,4]');

  test.each([
    ['a second tensor of the name', `{"a":${ok},"a":${ok}}`, four, /names "a" twice/],
    ['an escaped second name', `{"a":${ok},"\\u0061":${ok}}`, four, /names "a" twice/],
    [
      'a repeated key',
      '{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
      four,
      /names "dtype" twice/,
    ],
    ['a repeated metadata key', `{"__metadata__":{"k":"1","k":"2"},"a":${ok}}`, four, /names "k" twice/],
    [
      'two metadata objects',
      `{"__metadata__":{},"__metadata__":{},"a":${ok}}`,
      four,
      /names "__metadata__" twice/,
    ],
    [
      'an unknown key',
      '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x\\u001b":1}}',
      four,
      /unknown key "x\\u001b"/,
    ],
    [
      'metadata that are not text',
      `{"__metadata__":{"k":1},"a":${ok}}`,
      four,
      /"k" in __metadata__ is not a text/,
    ],
    ['a lacking key', '{"a":{"dtype":"F32","shape":[1]}}', four, /"a": data_offsets/],
    ['an unknown type', `{"a":${entry('[1]', '[0,4]', 'F33')}}`, four, /unknown dtype "F33"/],
    ['a type from Object.prototype', `{"a":${entry('[1]', '[0,4]', 'toString')}}`, four, /unknown dtype/],
    [
      'a shape whose product overflows',
      `{"a":${entry('[4294967296,4294967296]', '[0,0]')}}`,
      new Uint8Array(0),
      /overflows/,
    ],
    ['a size in bytes that overflows', `{"a":${entry('[4503599627370496]', '[0,4]')}}`, four, /overflows/],
    ['a side beyond 2^53', `{"a":${entry('[99999999999999999999]', '[0,4]')}}`, four, /shape: 0: /],
    ['a negative side', `{"a":${entry('[-1]', '[0,4]')}}`, four, /"-" outside/],
    ['a fractional side', `{"a":${entry('[1.5]', '[0,4]')}}`, four, /"\." outside/],
    ['an exponent', `{"a":${entry('[1e0]', '[0,4]')}}`, four, /"e" outside/],
    ['a leading zero', `{"a":${entry('[01]', '[0,4]')}}`, four, /not JSON/],
    ['too many sides', `{"a":${entry(`[${'1,'.repeat(16)}1]`, '[0,4]')}}`, four, /<=16 items/],
    ['three offsets', `{"a":${entry('[1]', '[0,4,4]')}}`, four, /<=2 items/],
    ['one offset', `{"a":${entry('[1]', '[4]')}}`, four, /data_offsets/],
    ['offsets in reverse', `{"a":${entry('[1]', '[4,0]')}}`, four, /hold -4/],
    ['offsets that do not hold the shape', `{"a":${entry('[2]', '[0,4]')}}`, four, /takes 8 bytes/],
    [
      'data beyond the file',
      `{"a":${entry('[2]', '[0,8]')}}`,
      four,
      /ends at byte 8 of the data, which has 4 bytes/,
    ],
    [
      'an overlap',
      `{"a":${entry('[2]', '[0,8]')},"b":${entry('[2]', '[4,12]')}}`,
      new Uint8Array(12),
      /"b" overlaps tensor "a"/,
    ],
    ['the same place twice', `{"a":${ok},"b":${ok}}`, four, /overlaps/],
    [
      'a hole',
      `{"a":${ok},"b":${entry('[1]', '[8,12]')}}`,
      new Uint8Array(12),
      /4 bytes between tensor "a" and tensor "b"/,
    ],
    ['a hole at the beginning', `{"a":${entry('[1]', '[4,8]')}}`, new Uint8Array(8), /4 bytes between/],
    ['bytes after the last tensor', `{"a":${ok}}`, new Uint8Array(5), /1 bytes after the last/],
    ['text after the header', `{"a":${ok}} x`, four, /"x" outside/],
    ['no JSON', 'hello', four, /does not begin with "{"/],
    ['a list', '[]', new Uint8Array(0), /does not begin with "{"/],
    ['leading space', ` {"a":${ok}}`, four, /does not begin with "{"/],
    ['an open string', '{"a', new Uint8Array(0), /not JSON/],
    ['an open escape', '{"a\\', new Uint8Array(0), /not JSON/],
    ['a bad escape', `{"\\q":${ok}}`, four, /not JSON/],
    ['a control character', `{"a\u0001":${ok}}`, four, /not JSON/],
    ['a name beyond all bounds', `{"${'n'.repeat(5000)}":${ok}}`, four, /longer than 4096/],
    ['a trailing comma', `{"a":${ok},}`, four, /not JSON/],
    ['deep nesting', `{"a":${'['.repeat(100_000)}}`, four, /not JSON/],
  ])('refuses %s', async (_, header, data, message) => {
    expect(await refusal(await fileOf(header, data))).toMatch(message);
  });

  test('refuses text that is not UTF-8', async () => {
    expect(await refusal(await fileOf(Uint8Array.of(0x7b, 0xff, 0x7d), four))).toMatch(/UTF-8/);
  });

  test('accepts an empty file of no tensors, space within, and trailing space', async () => {
    for (const [header, data] of [
      ['{}', 0],
      ['{} \n ', 0],
      [`{ "a" :\t${ok} }  `, 4],
    ] as const) {
      await (await Safetensors.open(await fileOf(header, new Uint8Array(data)))).close();
    }
  });

  test.each([0, 4, 7])('refuses a file of %i bytes', async (bytes) => {
    const path = join(temporaryFolder(), 'x');
    await writeFile(path, new Uint8Array(bytes));
    expect(await refusal(path)).toMatch(/too short/);
  });

  test.each([
    ['all ones', 0xffffffffffffffffn],
    ['more than the file', 101n],
    ['2^63', 1n << 63n],
  ])('refuses a header length of %s without allocating it', async (_, length) => {
    const path = join(temporaryFolder(), 'x');
    const bytes = Buffer.alloc(108);
    bytes.writeBigUInt64LE(length);
    await writeFile(path, bytes);
    expect(await refusal(path)).toMatch(new RegExp(`header of ${length} bytes`));
  });

  test('refuses a header over 100 MB even where the (sparse) file is that large', async () => {
    const path = join(temporaryFolder(), 'x');
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(MAX_HEADER_BYTES + 1));
    await writeFile(path, bytes);
    await truncate(path, 2 * MAX_HEADER_BYTES);
    const before = process.memoryUsage().arrayBuffers;
    expect(await refusal(path)).toMatch(/100000001 bytes/);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 << 20);
  });

  test('reads tensors beyond 4 GiB of a (sparse) file', async () => {
    const path = join(temporaryFolder(), 'x');
    const far = 5 * 2 ** 30;
    const header = Buffer.from(
      `{"a":${entry(`[${far / 4}]`, `[0,${far}]`)},"b":${entry('[1]', `[${far},${far + 4}]`)}}`,
    );
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    await writeFile(path, Buffer.concat([length, header]));
    const handle = await open(path, 'r+');
    await handle.write(new Uint8Array(Float32Array.of(42).buffer), 0, 4, 8 + header.length + far);
    await handle.close();
    const file = await Safetensors.open(path);
    expect(await file.read('b')).toEqual(Float32Array.of(42));
    await file.close();
  });

  test('refuses what is no file, without waiting on it', async () => {
    const path = temporaryFolder();
    execFileSync('mkfifo', [join(path, 'pipe')]);
    for (const name of ['', 'pipe', 'nothing']) {
      await expect(Safetensors.open(join(path, name))).rejects.toMatchObject({ code: 'ERR_FILE_OPEN' });
    }
  });

  test('notices a file that shrinks while it is read', async () => {
    const path = await fileOf(`{"a":${ok}}`, four);
    const file = await Safetensors.open(path);
    await truncate(path, 20);
    await expect(file.read('a')).rejects.toMatchObject({ code: 'ERR_FILE_TRUNCATED' });
    await file.close();
  });
});
