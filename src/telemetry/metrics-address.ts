/** The address of /metrics: the first free port. Apart from the server, whose libraries take long to load. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { OrchestratorError } from '../errors.js';

/** Ports after a given one that are tried where it is in use. */
const MORE_PORTS = 100;

/** Refuses an address on which serveMetrics could not listen now, on no port that it would try. */
export async function checkMetricsAddress(host: string, port: number): Promise<void> {
  const server = createServer();
  await listen(server, host, port);
  server.close();
}

/** Listens on the port, or on the next free one. */
export async function listen(server: Server, host: string, first: number): Promise<void> {
  const last = first === 0 ? 0 : Math.min(65_535, first + MORE_PORTS);
  for (let port = first; ; port++) {
    try {
      await once(server.listen(port, host), 'listening');
      // A connection that cannot be accepted must not end the run.
      server.on('error', () => {});
      return;
    } catch (cause) {
      const { code, message } = cause as NodeJS.ErrnoException;
      if (code === 'EADDRINUSE' && port < last) continue;
      const ports = port === first ? `port ${port}` : `ports ${first} to ${port}`;
      const why = code === 'EADDRINUSE' ? 'in use by other processes' : message;
      const hint =
        code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND'
          ? 'Set telemetry.metrics_host to an address of this machine: 127.0.0.1, or 0.0.0.0 for all of its addresses'
          : 'Set telemetry.metrics_port to another port, to 0 (any free one) or to null (off)';
      throw new OrchestratorError('ERR_PORT', `Cannot serve metrics on ${host}, ${ports}: ${why}`, {
        hint,
        cause,
      });
    }
  }
}
