/**
 * virtiofsd, the program that serves a folder by vhost-user: found and started. There are two of that name, one in C
 * that came with QEMU up to 7.2, and its successor in Rust; what is said to them here, both understand.
 */
import { existsSync, realpathSync, statSync } from 'node:fs';
import type { OwnedFd } from '../../ffi/file.ts';
import { createConnectedListener } from '../../ffi/connected-listener.ts';
import { VoltError } from '../../volt-error.ts';
import { createHelperOutput } from '../host/helper-output.ts';

/** Where distributions put it, beside the PATH. */
const PLACES = [
  '/usr/libexec/virtiofsd',
  '/usr/lib/virtiofsd',
  '/usr/lib/qemu/virtiofsd',
  '/usr/libexec/qemu/virtiofsd',
];
/** Descriptors of the child: 0 to 2, then what it is handed. */
const LISTENER_FD = 3;

export interface SharedFolder {
  readonly path: string;
  readonly readOnly: boolean;
  readonly cache: string;
}

export interface RunningDaemon {
  /** Does not block. When it is closed, or this process ends, the daemon ends too. */
  readonly connection: OwnedFd;
  /** Its stderr, if Volt started it. */
  readonly output: OwnedFd | undefined;
  close(): void;
}

/** Throws VoltError 'usage' for a path that is no folder and 'host' when there is no virtiofsd that could do it. */
export function startVirtiofsd(folder: SharedFolder): RunningDaemon {
  const source = realFolder(folder.path);
  const program = findVirtiofsd();
  if (program === undefined) {
    throw unusable(
      folder.path,
      'the program virtiofsd is not installed',
      'it: apt-get install virtiofsd, or qemu-system-common on Debian 12; or socket=PATH of one that runs elsewhere',
    );
  }
  const argv: [string, ...string[]] = [
    program,
    '-f',
    `--fd=${LISTENER_FD}`,
    '-o',
    `source=${source},cache=${folder.cache}`,
  ];
  const command = folder.readOnly ? readOnlyCommand(folder.path, source, argv) : argv;
  const { listener, connection } = createConnectedListener();
  const [output, stderr] = createHelperOutput();
  const close = () => {
    connection.close();
    output.close();
  };
  try {
    Bun.spawn(command, { stdio: ['ignore', 'ignore', stderr.fd, listener.fd] }).unref();
  } catch (error) {
    close();
    throw unusable(folder.path, `${command[0]} does not start: ${(error as Error).message}`, 'one that does');
  } finally {
    listener.close();
    stderr.close();
  }
  return {
    connection,
    output,
    close,
  };
}

export function findVirtiofsd(): string | undefined {
  return Bun.which('virtiofsd') ?? PLACES.find((path) => existsSync(path));
}

export function unusable(where: string, found: string, expected: string): VoltError {
  return new VoltError('host', `Cannot use --share ${where}: ${found} (expected ${expected})`);
}

function realFolder(path: string): string {
  const bad = (found: string) =>
    new VoltError('usage', `Cannot use --share ${path}: ${found} (expected a folder)`);
  let real: string;
  try {
    real = realpathSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw bad(code === 'EACCES' ? 'permission denied' : 'there is no such folder');
  }
  if (!statSync(real).isDirectory()) throw bad('it is no folder');
  // virtiofsd's options end there, and it knows no way around that.
  if (/[,\\]/.test(real)) throw bad('its path has a comma or a backslash, which virtiofsd does not take');
  return real;
}

/** Mounts $1 over itself read-only, in a mount namespace of its own, and becomes what follows. */
const MOUNT_READ_ONLY = 'mount --bind -- "$1" "$1" && mount -o remount,bind,ro -- "$1" && shift && exec "$@"';

/** The older ones cannot keep a guest from writing; the host's kernel can, for root. */
function readOnlyCommand(path: string, source: string, argv: readonly [string, ...string[]]): string[] {
  if (knowsReadOnly(argv[0])) return [...argv, '--readonly'];
  if (process.getuid?.() === 0) {
    const unshare = ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', MOUNT_READ_ONLY, 'sh'];
    return [...unshare, source, ...argv];
  }
  throw unusable(
    path,
    `${argv[0]} has no --readonly, and you are not root, who can mount the folder read-only`,
    'root, or virtiofsd 1.13 or later',
  );
}

function knowsReadOnly(program: string): boolean {
  const { stdout } = Bun.spawnSync([program, '--help'], { stdin: 'ignore', stderr: 'ignore' });
  return stdout.includes('--readonly');
}
