/**
 * Disks that qemu-storage-daemon serves: which paths, and its options for them, as JSON. (qemu-storage-daemon(1),
 * QEMU docs/interop/qemu-qmp-ref, BlockdevOptions and BlockExportOptions)
 */
import type { RateLimits, TokenBucketConfig } from '../../transport/rate-limiter.ts';

/** Formats by the names of a configuration; the daemon's driver for each. */
export const DRIVER_OF_FORMAT = {
  Qcow2: 'qcow2',
  Qed: 'qed',
  Vmdk: 'vmdk',
  Vhdx: 'vhdx',
  Vhd: 'vpc',
  Vdi: 'vdi',
  Luks: 'luks',
} as const;
export type ImageFormat = keyof typeof DRIVER_OF_FORMAT;

const FORMAT_OF_SUFFIX: Readonly<Record<string, ImageFormat>> = {
  qcow2: 'Qcow2',
  qed: 'Qed',
  vmdk: 'Vmdk',
  vhdx: 'Vhdx',
  vhd: 'Vhd',
  vdi: 'Vdi',
  luks: 'Luks',
};

export interface NbdServer {
  /** undefined: the default export. */
  readonly exportName: string | undefined;
  readonly server:
    | { readonly type: 'inet'; readonly host: string; readonly port: string }
    | { readonly type: 'unix'; readonly path: string };
}

const NBD_PORT = '10809';
const NBD_URI = /^nbd(\+unix)?:\/\//;

/** Whether a path is the URI of an NBD server. (NBD doc/uri.md) */
export function isNbdUri(path: string): boolean {
  return NBD_URI.test(path);
}

/** The server that a URI names; a clause that says what is wrong with the URI. */
export function parseNbdUri(uri: string): NbdServer | string {
  let url: URL;
  let exportName: string | undefined;
  try {
    url = new URL(uri);
    exportName = decodeURIComponent(url.pathname.slice(1)) || undefined;
  } catch {
    return 'it is not an NBD URI';
  }
  if (uri.startsWith('nbd+unix')) {
    const path = url.searchParams.get('socket');
    return path ? { exportName, server: { type: 'unix', path } } : 'it names no socket (socket=PATH)';
  }
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  if (host === '') return 'it names no host';
  return { exportName, server: { type: 'inet', host, port: url.port || NBD_PORT } };
}

/** The format of an image that the daemon serves; `Raw` for a raw NBD export; undefined: Volt serves the file. */
export function backEndFormat(
  path: string,
  format: ImageFormat | 'Raw' | undefined,
): ImageFormat | 'Raw' | undefined {
  if (isNbdUri(path)) return format ?? 'Raw';
  if (format !== undefined) return format === 'Raw' ? undefined : format;
  return FORMAT_OF_SUFFIX[/\.([a-z0-9]+)$/i.exec(path)?.[1]?.toLowerCase() ?? ''];
}

export interface ImageSource {
  readonly format: ImageFormat | 'Raw';
  /** A file, a block device, or an NBD server. */
  readonly at: { readonly path: string; readonly isBlockDevice: boolean } | { readonly nbd: NbdServer };
  /** File that has the key of an encrypted image. */
  readonly secret: string | undefined;
  readonly readOnly: boolean;
  /** Bypasses the host's page cache. */
  readonly direct: boolean;
  /** Flushes after every write. */
  readonly writeThrough: boolean;
  /** Ignores flushes. */
  readonly unsafe: boolean;
  readonly engine: 'Sync' | 'Async' | undefined;
  readonly queues: number;
  readonly limits: RateLimits;
  /** Path at which the daemon listens for QMP. */
  readonly monitor: string | undefined;
  /** Descriptor of its listening socket. */
  readonly listenerFd: number;
}

/** Names within the daemon. */
const NODE = 'disk';
const SECRET = 'key';
const LIMITS = 'limits';
const MONITOR = 'monitor';
/** Waits for an NBD server that is restarted, before requests fail. */
const NBD_RECONNECT_S = 20;

/** The daemon's command line, without the program. */
export function daemonArguments(source: ImageSource): string[] {
  const { secret, limits, monitor, readOnly, queues, listenerFd, writeThrough } = source;
  const hasLimits = limits.bandwidth !== undefined || limits.ops !== undefined;
  const option = (name: string, value: unknown) => [`--${name}`, JSON.stringify(value)];
  const disk = formatNode(source);
  return [
    ...(secret === undefined ? [] : option('object', { 'qom-type': 'secret', id: SECRET, file: secret })),
    ...(hasLimits
      ? option('object', { 'qom-type': 'throttle-group', id: LIMITS, limits: throttleLimits(limits) })
      : []),
    ...option(
      'blockdev',
      hasLimits
        ? { driver: 'throttle', 'node-name': NODE, 'throttle-group': LIMITS, discard: 'unmap', file: disk }
        : { ...disk, 'node-name': NODE },
    ),
    ...option('export', {
      type: 'vhost-user-blk',
      id: 'export',
      'node-name': NODE,
      writable: !readOnly,
      writethrough: writeThrough,
      'num-queues': queues,
      addr: { type: 'fd', str: String(listenerFd) },
    }),
    ...(monitor === undefined
      ? []
      : [
          '--chardev',
          // In this syntax a comma is doubled.
          `socket,id=${MONITOR},path=${monitor.replaceAll(',', ',,')},server=on,wait=off`,
          ...option('monitor', { chardev: MONITOR }),
        ]),
  ];
}

function formatNode(source: ImageSource): Record<string, unknown> {
  const { format, secret, readOnly, direct, unsafe } = source;
  const common = {
    'read-only': readOnly,
    discard: 'unmap',
    cache: { direct, 'no-flush': unsafe },
  };
  const file = { ...protocolNode(source), ...common };
  if (format === 'Raw') return file;
  const key =
    secret === undefined
      ? {}
      : format === 'Luks'
        ? { 'key-secret': SECRET }
        : { encrypt: { format: 'luks', 'key-secret': SECRET } };
  return { driver: DRIVER_OF_FORMAT[format], ...key, ...common, file };
}

function protocolNode({ at, engine }: ImageSource): Record<string, unknown> {
  if ('nbd' in at) {
    const { server, exportName } = at.nbd;
    return {
      driver: 'nbd',
      server,
      ...(exportName === undefined ? {} : { export: exportName }),
      'reconnect-delay': NBD_RECONNECT_S,
    };
  }
  const aio = engine === 'Async' ? 'io_uring' : 'threads';
  return { driver: at.isBlockDevice ? 'host_device' : 'file', filename: at.path, aio };
}

/** (ThrottleLimits) */
function throttleLimits({ bandwidth, ops }: RateLimits): Record<string, number> {
  return { ...limitsOf('bps', bandwidth), ...limitsOf('iops', ops) };
}

function limitsOf(unit: 'bps' | 'iops', bucket: TokenBucketConfig | undefined): Record<string, number> {
  if (!bucket) return {};
  return { [`${unit}-total`]: Math.max(1, Math.floor((bucket.size * 1000) / bucket.refillMs)) };
}

/** A line of the daemon's stderr without its name and the option in question, which is long. */
export function shortenMessage(line: string): string {
  return line.replace(/^qemu-storage-daemon: (--[a-z-]+ (\{.*?\}): )?/, '');
}
