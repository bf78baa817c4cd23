/** The coordinator's /metrics, /healthz and /readyz. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { NewestSockets } from '../rpc/newest-sockets.js';
import { METRICS, type Metric, PREFIX, RUN_LABEL, type Surroundings } from './metrics.js';
import { strangeHost, withoutToken } from './metrics-access.js';
import { listen } from './metrics-address.js';
import type { RunHeader, Sink } from './record.js';

const TEXT = { 'content-type': 'text/plain; charset=utf-8' };
/** What a client may do; whoever can reach the port may be one. A scrape takes milliseconds. */
const LIMITS = {
  headersTimeout: 5_000,
  requestTimeout: 5_000,
  connectionsCheckingInterval: 1_000,
  maxHeaderSize: 8_192,
};
const METHODS = 'GET, HEAD';
/** The answer to CONNECT, which has no response object. */
const NOT_ALLOWED = `HTTP/1.1 405 Method Not Allowed\r\nallow: ${METHODS}\r\nconnection: close\r\n\r\n`;
const MAX_CONNECTIONS = 64;
const MAX_REQUESTS_PER_CONNECTION = 1_000;
/** A connection on which nothing moves for this long ends, even if its client does not read the response. */
const SILENT_MS = 10_000;
/** Time for which rendered metrics are sent again, so that a flood of requests costs the run nothing. */
const RENDERED_MS = 100;
/** Up to 700 s, close enough that quantiles are within some 20 % of their true values. */
const SECONDS_BUCKETS = [0.01, 0.1, 1, 10, 100].flatMap((decade) =>
  [1, 1.5, 2, 3, 5, 7].map((multiple) => Number((multiple * decade).toPrecision(2))),
);

export interface MetricsServer extends Sink {
  /** "http://127.0.0.1:9464" */
  readonly address: string;
}

/**
 * Starts the server, which runs until it is closed. Port 0 takes any free port; where another port is in use,
 * the next free one is taken.
 *
 * @param measure called whenever metrics are rendered
 * @param token which a request for /metrics must bear; null: none
 */
export async function serveMetrics(
  host: string,
  port: number,
  header: RunHeader,
  measure: () => Promise<Surroundings>,
  token: string | null = null,
): Promise<MetricsServer> {
  const registry = new Registry();
  registry.setDefaultLabels({ [RUN_LABEL]: header.run });
  collectDefaultMetrics({ register: registry, prefix: `${PREFIX}coordinator_` });
  instruments(registry, METRICS.header)(header);
  const measured = instruments(registry, METRICS.scrape);
  const render = async () => {
    measured(await measure());
    return await registry.metrics();
  };
  let current = 'INIT';
  let rendered: Promise<string> | null = null;
  const metrics = () => {
    if (rendered !== null) return rendered;
    setTimeout(() => {
      rendered = null;
    }, RENDERED_MS).unref();
    rendered = render();
    return rendered;
  };
  /** Sets metrics, which are then rendered again. */
  const setter = <R>(metrics: readonly Metric<R>[]) => {
    const set = instruments(registry, metrics);
    return (record: R) => {
      set(record);
      rendered = null;
    };
  };
  const count = setter(METRICS.count);
  // Before the first scrape: a later jump from 0 would look like that many restarts at once.
  count({ restarts: header.restarts, coordinator_restarts: header.coordinatorRestarts });
  const answer = (request: IncomingMessage, response: ServerResponse) => {
    const [path, parameters] = partsOf(request.url ?? '');
    const asked = parameters.get(RUN_LABEL);
    const refusal = strangeHost(host, request) ?? (path === '/metrics' ? withoutToken(token, request) : null);
    if (refusal !== null) {
      response.writeHead(refusal.status, { ...TEXT, ...refusal.headers }).end(refusal.text);
    } else if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.writeHead(405, { allow: METHODS }).end();
    } else if (path === '/metrics' && asked !== null && asked !== header.run) {
      // Prometheus still asks for a run that failed and had this address.
      response.writeHead(404, TEXT).end(`this is ${header.run}\n`);
    } else if (path === '/metrics') {
      metrics().then(
        (text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text),
        (error: Error) => response.writeHead(500, TEXT).end(`${error.message}\n`),
      );
    } else if (path === '/healthz') {
      response.writeHead(current === 'FAILED' ? 503 : 200, TEXT).end(`${current}\n`);
    } else if (path === '/readyz') {
      const ready = ['RUNNING', 'DRAINING', 'CHECKPOINTING'].includes(current);
      response.writeHead(ready ? 200 : 503, TEXT).end(`${current}\n`);
    } else {
      response.writeHead(404, TEXT).end('metrics, healthz, readyz\n');
    }
  };
  const server = createServer(LIMITS, answer);
  // Without a listener, Node.js ends such a connection without an answer.
  server.on('connect', (_, socket) => socket.end(NOT_ALLOWED));
  server.maxRequestsPerSocket = MAX_REQUESTS_PER_CONNECTION;
  server.setTimeout(SILENT_MS);
  const connections = new NewestSockets(MAX_CONNECTIONS);
  server.on('connection', (socket) => connections.add(socket));
  await listen(server, host, port);
  const setPhase = setter(METRICS.phase);
  const { port: actual } = server.address() as AddressInfo;
  return {
    step: setter(METRICS.step),
    validation: setter(METRICS.validation),
    checkpoint: setter(METRICS.checkpoint),
    missedCheckpoint: setter(METRICS.missedCheckpoint),
    generation: setter(METRICS.generation),
    count: (what, by) => count({ [what]: by }),
    phase: (phase) => {
      current = phase;
      setPhase(phase);
    },
    address: `http://${host.includes(':') ? `[${host}]` : host}:${actual}`,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** The path and the parameters of a request's target: "/metrics" of "/metrics?name" and of "http://host/metrics". */
function partsOf(target: string): [path: string, parameters: URLSearchParams] {
  const [path = '', query = ''] = target.replace(/^https?:\/\/[^/?]*/i, '').split('?');
  return [path, new URLSearchParams(query)];
}

/** Registers metrics, and returns what sets them to the values of a record. */
function instruments<R>(registry: Registry, metrics: readonly Metric<R>[]): (record: R) => void {
  const updates = metrics.map((metric) => instrument(registry, metric));
  return (record) => {
    for (const update of updates) update(record);
  };
}

function instrument<R>(registry: Registry, metric: Metric<R>): (record: R) => void {
  const { type, name, help, labels, known = [], read } = metric;
  const options = { name: PREFIX + name, help, labelNames: [...labels], registers: [registry] };
  const counter = type === 'counter' ? new Counter(options) : null;
  const gauge = type === 'gauge' ? new Gauge(options) : null;
  for (const value of known) counter?.labels(value).inc(0);
  // A gauge has no value before it is set: 0 would be taken for a measurement.
  if (labels.length === 0) gauge?.remove();
  const histogram = type === 'histogram' ? new Histogram({ ...options, buckets: SECONDS_BUCKETS }) : null;
  return (record) => {
    const values = read(record);
    const samples = typeof values === 'number' ? [[values] as const] : values;
    // Labels that no longer occur, like the previous phase, go.
    if (samples.length > 0) gauge?.reset();
    for (const [value, ...of] of samples) {
      if (Number.isFinite(value)) counter?.labels(...of).inc(value);
      gauge?.labels(...of).set(value);
      histogram?.labels(...of).observe(value);
    }
  };
}
