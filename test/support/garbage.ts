/** What strangers and broken programs may send to a socket: raw bytes, HTTP/1, HTTP/2 and gRPC, malformed. */
import { constants as http2 } from 'node:http2';
import { generator } from './random.js';

/** A frame of HTTP/2 (RFC 9113, section 4.1). */
function frame(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(payload.length, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(stream, 5);
  return Buffer.concat([header, payload]);
}

const [DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION] = [0, 1, 3, 4, 6, 8, 9];
const [END_STREAM, END_HEADERS, ACK, PADDED] = [1, 4, 1, 8];

const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
/** A header by name and value, neither compressed nor indexed (HPACK, RFC 7541, section 6.2.2). */
const header = (name: string, value: string) =>
  Buffer.from([0, name.length, ...Buffer.from(name), value.length, ...Buffer.from(value)]);
const post = (path: string) =>
  Buffer.concat([
    header(':method', 'POST'),
    header(':scheme', 'http'),
    header(':path', path),
    header(':authority', 'x'),
    header('te', 'trailers'),
    header('content-type', 'application/grpc'),
  ]);
const repeated = (count: number, make: (i: number) => Buffer) =>
  Buffer.concat(Array.from({ length: count }, (_, i) => make(i)));
const window = Buffer.from([0x7f, 0xff, 0xff, 0xff]);

/** A connection of HTTP/2 with these frames after the client's settings. */
const connection = (...frames: Buffer[]) =>
  Buffer.concat([Buffer.from(preface), frame(SETTINGS, 0, 0), ...frames]);

/** One call of gRPC with these bytes as its body. */
const call = (path: string, body: Uint8Array) =>
  connection(frame(HEADERS, END_HEADERS, 1, post(path)), frame(DATA, END_STREAM, 1, body));

const message = (flag: number, length: number, bytes: readonly number[]) => {
  const prefix = Buffer.alloc(5);
  prefix[0] = flag;
  prefix.writeUInt32BE(length, 1);
  return Buffer.concat([prefix, Buffer.from(bytes)]);
};

export const PATHS = ['/orchestrator.v1.Coordinator/Session', '/orchestrator.v1.Peer/Pull'];

/** Bodies of calls that are no message of either method, or one that nobody may send. */
const BODIES: Record<string, Buffer> = {
  nothing: Buffer.alloc(0),
  'half a prefix': Buffer.from([0, 0]),
  'a message of 4 GiB': message(0, 0xffff_ffff, [1, 2, 3]),
  'a compressed message': message(1, 2, [8, 1]),
  'a message with bytes behind it': Buffer.concat([message(0, 2, [8, 1]), Buffer.from('more')]),
  'a field without its value': message(0, 2, [0x2a, 0xff]),
  'no protobuf': message(0, 8, [255, 255, 255, 255, 255, 255, 255, 255]),
  'groups in groups': message(0, 200, Array(200).fill(0x0b)),
  'a request that is too long': message(0, 70_000, Array(70_000).fill(0x2a)),
};

/** By name, what is sent. The paths of HTTP/1 are those of the metrics port. */
export const GARBAGE: ReadonlyMap<string, Buffer> = new Map([
  ...Object.entries({
    'no bytes': '',
    'a line feed': '\n',
    'a thousand line feeds': '\r\n'.repeat(1_000),
    'a greeting without an end': 'orchestrator ',
    'a wrong token': `orchestrator ${'0'.repeat(64)}\n`,
    'the hello of TLS': '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
    'HTTP/1: no path': 'GET // HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n',
    'HTTP/1: no host in the target': 'GET http://[ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n',
    'HTTP/1: no host': 'GET /metrics HTTP/1.1\r\n\r\n',
    'HTTP/1: hosts': 'GET /metrics HTTP/1.1\r\nhost: x\r\nhost: y\r\nconnection: close\r\n\r\n',
    'HTTP/1: OPTIONS *': 'OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n',
    'HTTP/1: CONNECT': 'CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n',
    'HTTP/1: upgrade':
      'GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n',
    'HTTP/1: HTTP/9.9': 'GET / HTTP/9.9\r\n\r\n',
    'HTTP/1: huge headers': `GET / HTTP/1.1\r\nx: ${'y'.repeat(200_000)}\r\n\r\n`,
    'HTTP/1: a thousand headers': `GET / HTTP/1.1\r\n${'x: y\r\n'.repeat(1_000)}\r\n`,
    'HTTP/1: bad chunks': 'POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n',
    'HTTP/1: two lengths': 'POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab',
    'HTTP/1: requests in a row': 'GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(200),
    'HTTP/1: a request without an end': 'GET /metrics HTTP/1.1\r\nhost: x\r\n',
    'HTTP/2: half a preface': preface.slice(0, 10),
    'HTTP/2: a preface and no frame': preface,
    'HTTP/2: a preface and garbage': `${preface}${'garbage'.repeat(100)}`,
  }).map(([name, text]) => [name, Buffer.from(text, 'latin1')] as const),
  ...Object.entries({
    'a frame of 16 MiB': connection(Buffer.from([255, 255, 255, DATA!, 0, 0, 0, 0, 1]), Buffer.alloc(1_000)),
    'an unknown frame': connection(frame(0xbe, 0xff, 1, Buffer.alloc(100))),
    'settings of a wrong length': connection(frame(SETTINGS!, 0, 0, Buffer.alloc(5))),
    'a flood of settings': connection(repeated(3_000, () => frame(SETTINGS!, 0, 0))),
    'a flood of pings': connection(repeated(3_000, () => frame(PING!, 0, 0, Buffer.alloc(8)))),
    'answers that nobody asked for': connection(repeated(100, () => frame(SETTINGS!, ACK, 0))),
    'a window beyond its limit': connection(
      frame(WINDOW_UPDATE!, 0, 0, window),
      frame(WINDOW_UPDATE!, 0, 0, window),
    ),
    'a window of nothing': connection(frame(WINDOW_UPDATE!, 0, 0, Buffer.alloc(4))),
    'data of no stream': connection(frame(DATA!, END_STREAM, 99, Buffer.from('x'))),
    'padding longer than its frame': connection(frame(DATA!, PADDED, 1, Buffer.from([200, 1]))),
    'headers that cannot be decoded': connection(
      frame(HEADERS!, END_HEADERS | END_STREAM, 1, Buffer.alloc(100, 0xff)),
    ),
    'headers of an even stream': connection(frame(HEADERS!, END_HEADERS, 2, post('/'))),
    'headers without an end': connection(
      frame(HEADERS!, 0, 1, post('/')),
      frame(PING!, 0, 0, Buffer.alloc(8)),
    ),
    'a flood of continuations': connection(
      frame(HEADERS!, 0, 1, post('/')),
      repeated(2_000, () => frame(CONTINUATION!, 0, 1, header('x', 'y'.repeat(100)))),
    ),
    'a header bomb': connection(
      frame(
        HEADERS!,
        END_HEADERS,
        1,
        Buffer.concat([
          Buffer.from([0x40, 1, 0x78, 0x7f, 0x81, 0x1e]),
          Buffer.alloc(4_000, 0x79),
          Buffer.alloc(8_000, 0xbe),
        ]),
      ),
    ),
    'a header with a bad value': connection(
      frame(HEADERS!, END_HEADERS, 1, Buffer.concat([post('/'), header('x', 'a\r\nb')])),
    ),
  }).map(([name, bytes]) => [`HTTP/2: ${name}`, bytes] as const),
  ...PATHS.flatMap((path) => [
    ...Object.entries(BODIES).map(([name, body]) => [`gRPC ${path}: ${name}`, call(path, body)] as const),
    [
      `gRPC ${path}: a flood of cancelled calls`,
      connection(
        repeated(500, (i) =>
          Buffer.concat([
            frame(HEADERS!, END_HEADERS, 2 * i + 1, post(path)),
            frame(RST_STREAM!, 0, 2 * i + 1, Buffer.from([0, 0, 0, http2.NGHTTP2_CANCEL])),
          ]),
        ),
      ),
    ] as const,
    [
      `gRPC ${path}: calls without an end`,
      connection(repeated(500, (i) => frame(HEADERS!, END_HEADERS, 2 * i + 1, post(path)))),
    ] as const,
  ]),
  ['gRPC: an unknown method', call('/orchestrator.v1.Peer/%zz', message(0, 0, []))],
]);

/** Bytes without a meaning, the same for a seed. */
export function noise(seed: number): Buffer {
  const random = generator(seed);
  return Buffer.from(Array.from({ length: 1 + Math.floor(random() ** 4 * 100_000) }, () => random() * 256));
}
