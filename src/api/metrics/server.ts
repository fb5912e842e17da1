/** `--metrics`: an HTTP server for monitors, on a TCP address or a Unix socket. */
import type { VirtualMachine } from '../../vmm/virtual-machine.ts';
import { VoltError } from '../../volt-error.ts';
import { placeSocket } from '../control/socket-file.ts';
import { collectMetrics, type MetricsSource } from './collect.ts';
import { serveHttp, type HttpHandler, type HttpServer } from './http-server.ts';
import { formatMetrics, OPEN_METRICS_TYPE } from './open-metrics.ts';

/** A metrics server, which runs until it is disposed of. */
export interface MetricsServer extends AsyncDisposable {
  /** `http://127.0.0.1:9100/metrics`, or the absolute path of the socket. */
  readonly where: string;
  /** Path of the Unix socket; undefined for TCP. */
  readonly path: string | undefined;
}

const HIGHEST_PORT = 65535;

/**
 * Opens the server at `where`: `ADDRESS:PORT` with an IPv4 address, `[IPv6]:PORT`, or a path (with a slash in
 * it). Port 0 takes a free port. `vm` returns the current machine, which changes when the guest resets
 * itself. Every sample has the `labels`. Throws VoltError 'usage' for an invalid address and 'host' for one that cannot be opened.
 */
export function openMetrics(
  vm: () => VirtualMachine,
  source: MetricsSource,
  version: string,
  where: string,
  labels: Readonly<Record<string, string>> = {},
): MetricsServer {
  const respond: HttpHandler = (path) =>
    path === '/metrics'
      ? {
          status: 200,
          body: formatMetrics(collectMetrics(vm(), source, version), labels),
          headers: { 'content-type': OPEN_METRICS_TYPE },
        }
      : { status: 404, body: 'Cannot find this path (expected /metrics)\n' };
  return where.includes('/') ? serveAtPath(where, respond) : serveAtAddress(where, respond);
}

function serveAtPath(path: string, respond: HttpHandler): MetricsServer {
  let server: HttpServer | undefined;
  const file = placeSocket(path, (unix) => {
    server = serveHttp({ unix }, respond);
  });
  process.on('exit', file.remove);
  const close = async () => {
    process.off('exit', file.remove);
    file.remove();
    server?.stop();
  };
  return { where: file.path, path: file.path, [Symbol.asyncDispose]: close };
}

function serveAtAddress(where: string, respond: HttpHandler): MetricsServer {
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
    const server = serveHttp({ hostname, port }, respond);
    const shown = hostname.includes(':') ? `[${hostname}]` : hostname;
    return {
      where: `http://${shown}:${server.port}/metrics`,
      path: undefined,
      [Symbol.asyncDispose]: async () => server.stop(),
    };
  } catch (error) {
    throw new VoltError(
      'host',
      `Cannot open --metrics at ${where}: ${(error as Error).message.split('\n')[0]}; use an address of this host and a free port`,
      { cause: error },
    );
  }
}
