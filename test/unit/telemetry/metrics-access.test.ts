/** Who gets an answer on the metrics port. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { readMetricsToken } from '../../../src/telemetry/metrics-access.js';
import { type MetricsServer, serveMetrics } from '../../../src/telemetry/prometheus.js';
import { temporaryFolder } from '../../support/folders.js';
import { raw as rawTo, request } from '../../support/raw-http.js';
import { header } from '../../support/records.js';

let server: MetricsServer;
afterEach(() => server.close?.());
const measure = async () => ({ diskFree: null });

const raw = (bytes: string) => rawTo(server.address, bytes);

test.each([
  ['localhost', '200'],
  ['LOCALHOST:9464', '200'],
  ['127.0.0.1:1', '200'],
  ['[::1]:9464', '200'],
  ['metrics.example.org', '403'],
  ['127.0.0.1.example.org', '403'],
  ['localhost.example.org:9464', '403'],
  ['10.0.0.1', '403'],
  ['', '403'],
])(
  "on loopback, host %j is answered with %s: a name that leads here may be a web page's",
  async (host, status) => {
    server = await serveMetrics('127.0.0.1', 0, header, measure);
    for (const path of ['/metrics', '/readyz', '/healthz', '/']) {
      const answer = await raw(`GET ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`);
      if (status === '403') expect(answer).toMatch(/^HTTP\/1\.1 403 /);
      else expect(answer).not.toMatch(/^HTTP\/1\.1 403 /);
    }
  },
);

test('elsewhere than on loopback any host will do', async () => {
  server = await serveMetrics('0.0.0.0', 0, header, measure);
  expect(await raw(`GET /metrics HTTP/1.1\r\nhost: pod-1\r\nconnection: close\r\n\r\n`)).toMatch(
    /^HTTP\/1\.1 200 /,
  );
});

test('with a token /metrics asks for it, and the probes do not', async () => {
  const path = join(temporaryFolder(), 'token');
  writeFileSync(path, 'secret-1\n');
  server = await serveMetrics('127.0.0.1', 0, header, measure, readMetricsToken(path));
  const asked = (authorization: string) => raw(request('/metrics', `authorization: ${authorization}\r\n`));
  expect(await asked('Bearer secret-1')).toMatch(/^HTTP\/1\.1 200 /);
  for (const wrong of ['Bearer secret', 'Bearer secret-1x', 'Bearer', 'Basic c2VjcmV0LTE=', 'secret-1'])
    expect(await asked(wrong)).toMatch(/^HTTP\/1\.1 401 .*\r\n(.*\r\n)*www-authenticate: Bearer /);
  expect(await raw(request('/metrics'))).toMatch(/^HTTP\/1\.1 401 /);
  expect(await raw(request('/healthz'))).toMatch(/^HTTP\/1\.1 200 /);
  for (const text of ['', 'two words', 'x'.repeat(5_000)]) {
    writeFileSync(path, text);
    expect(() => readMetricsToken(path)).toThrow(/token: expected one line of up to 4096/);
  }
  expect(() => readMetricsToken(`${path}-2`)).toThrow(expect.objectContaining({ code: 'ERR_FILE_OPEN' }));
});
