/**
 * Finds and starts virtiofsd, which serves a folder by vhost-user. Two programs have that name: one in C,
 * part of QEMU up to 7.2, and its successor in Rust. The options used here work with both.
 */
import { existsSync, realpathSync, statSync } from 'node:fs';
import type { OwnedFd } from '../../ffi/file.ts';
import { createConnectedListener } from '../../ffi/connected-listener.ts';
import { VoltError } from '../../volt-error.ts';
import { createHelperOutput } from '../host/helper-output.ts';

/** Where distributions install it outside the PATH. */
const INSTALL_PATHS = [
  '/usr/libexec/virtiofsd',
  '/usr/lib/virtiofsd',
  '/usr/lib/qemu/virtiofsd',
  '/usr/libexec/qemu/virtiofsd',
];
/** The child's descriptor after stdin, stdout and stderr. */
const LISTENER_FD = 3;

export interface SharedFolder {
  readonly path: string;
  readonly readOnly: boolean;
  readonly cache: string;
}

export interface RunningDaemon {
  /** Non-blocking. The daemon exits when it is closed, also by the end of this process. */
  readonly connection: OwnedFd;
  /** Its stderr, if Volt started it. */
  readonly output: OwnedFd | undefined;
  close(): void;
}

/** Throws VoltError 'usage' for a path that is not a folder, and 'host' without a suitable virtiofsd. */
export function startVirtiofsd(folder: SharedFolder): RunningDaemon {
  const source = realFolder(folder.path);
  const program = findVirtiofsd();
  if (program === undefined) {
    throw shareError(
      folder.path,
      'the program virtiofsd is not installed',
      'install it (apt-get install virtiofsd, or qemu-system-common on Debian 12), or use socket=PATH of a running one',
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
  const { listener, connections } = createConnectedListener(1);
  const connection = connections[0]!;
  const [output, stderr] = createHelperOutput();
  const close = () => {
    connection.close();
    output.close();
  };
  try {
    Bun.spawn(command, { stdio: ['ignore', 'ignore', stderr.fd, listener.fd] }).unref();
  } catch (error) {
    close();
    throw shareError(
      folder.path,
      `${command[0]} does not start: ${(error as Error).message}`,
      'check its installation',
    );
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
  return Bun.which('virtiofsd') ?? INSTALL_PATHS.find((path) => existsSync(path));
}

export function shareError(where: string, found: string, advice: string): VoltError {
  return new VoltError('host', `Cannot use --share ${where}: ${found}; ${advice}`);
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
  if (!statSync(real).isDirectory()) throw bad('it is not a folder');
  // In virtiofsd's -o source=…, a comma ends the option, and the C version has no escape.
  if (/[,\\]/.test(real)) throw bad('its path has a comma or a backslash, which virtiofsd does not support');
  return real;
}

/** In a new mount namespace: remounts $1 read-only, then executes the remaining arguments. */
const MOUNT_READ_ONLY = 'mount --bind -- "$1" "$1" && mount -o remount,bind,ro -- "$1" && shift && exec "$@"';

/**
 * Older versions have no read-only mode; then a read-only bind mount prevents writes, which requires root.
 */
function readOnlyCommand(path: string, source: string, argv: readonly [string, ...string[]]): string[] {
  if (supportsReadOnly(argv[0])) return [...argv, '--readonly'];
  if (process.getuid?.() === 0) {
    const unshare = ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', MOUNT_READ_ONLY, 'sh'];
    return [...unshare, source, ...argv];
  }
  throw shareError(
    path,
    `${argv[0]} has no --readonly, and only root can mount the folder read-only instead`,
    'run as root, or install virtiofsd 1.13 or later',
  );
}

function supportsReadOnly(program: string): boolean {
  const { stdout } = Bun.spawnSync([program, '--help'], { stdin: 'ignore', stderr: 'ignore' });
  return stdout.includes('--readonly');
}
