/** `--metrics`: an HTTP server for monitors, on a TCP address or a Unix socket. */
import type { VirtualMachine } from '../../vmm/virtual-machine.ts';
import { VoltError } from '../../volt-error.ts';
import { placeSocket } from '../control/socket-file.ts';
import { collectMetrics, type MetricsSource } from './collect.ts';
import { formatMetrics, OPEN_METRICS_TYPE } from './open-metrics.ts';

/** A server of metrics that runs until it is disposed of. */
export interface MetricsServer extends AsyncDisposable {
  /** `http://127.0.0.1:9100/metrics`, or the absolute path of the socket. */
  readonly where: string;
  /** Of the Unix socket; undefined for TCP. */
  readonly path: string | undefined;
}

const HIGHEST_PORT = 65535;
/** Requests have no body. */
const MAX_REQUEST_BYTES = 1024;

/**
 * `vm` is the machine of the moment: a guest that resets itself gets a new one. Opens the server at `where`: `ADDRESS:PORT` with an IPv4 address, `[IPv6]:PORT`, or a path (with a slash in it). Port 0
 * takes a free one. Throws VoltError 'usage' for what is neither and 'host' for what cannot be had.
 */
export function openMetrics(
  vm: () => VirtualMachine,
  source: MetricsSource,
  version: string,
  where: string,
): MetricsServer {
  const respond = (request: Request) =>
    answer(request, () => formatMetrics(collectMetrics(vm(), source, version)));
  return where.includes('/') ? serveAtPath(where, respond) : serveAtAddress(where, respond);
}

function answer(request: Request, metrics: () => string): Response {
  const { pathname } = new URL(request.url);
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    return new Response('Cannot answer this method (expected GET)\n', {
      status: 405,
      headers: { allow: 'GET, HEAD' },
    });
  }
  if (pathname !== '/metrics') return new Response('Cannot find this (expected /metrics)\n', { status: 404 });
  return new Response(metrics(), { headers: { 'content-type': OPEN_METRICS_TYPE } });
}

type Respond = (request: Request) => Response;

function serveAtPath(path: string, respond: Respond): MetricsServer {
  let server: Bun.Server<undefined> | undefined;
  const file = placeSocket(path, (unix) => {
    server = Bun.serve({ unix, fetch: respond, maxRequestBodySize: MAX_REQUEST_BYTES });
    server.unref();
  });
  process.on('exit', file.remove);
  const close = async () => {
    process.off('exit', file.remove);
    file.remove();
    await server?.stop(true);
  };
  return { where: file.path, path: file.path, [Symbol.asyncDispose]: close };
}

function serveAtAddress(where: string, respond: Respond): MetricsServer {
  const match = /^(?:\[([\da-fA-F:.]+)\]|(\d{1,3}(?:\.\d{1,3}){3})):(\d{1,5})$/.exec(where);
  const port = Number(match?.[3]);
  if (!match || port > HIGHEST_PORT) {
    throw new VoltError(
      'usage',
      `Cannot use --metrics: "${where}" (expected an address and port such as 127.0.0.1:9100 or [::1]:9100, or a path with a slash)`,
    );
  }
  const hostname = match[1] ?? match[2]!;
  try {
    const server = Bun.serve({ hostname, port, fetch: respond, maxRequestBodySize: MAX_REQUEST_BYTES });
    server.unref();
    const shown = hostname.includes(':') ? `[${hostname}]` : hostname;
    return {
      where: `http://${shown}:${server.port}/metrics`,
      path: undefined,
      [Symbol.asyncDispose]: () => server.stop(true),
    };
  } catch (error) {
    throw new VoltError(
      'host',
      `Cannot open --metrics at ${where}: ${(error as Error).message.split('\n')[0]} (expected an address of this host and a free port)`,
      { cause: error },
    );
  }
}
