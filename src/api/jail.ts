/**
 * `--jail`: Volt executes itself again with a directory as its root file system, as another user, in a
 * network namespace and a cgroup. All files that the guest needs (kernel, initrd, configuration) must be in
 * that directory, and paths on the command line are relative to it. The sandbox is entered in addition.
 */
import { chownSync, existsSync, mkdirSync, realpathSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import {
  switchUser,
  joinCgroup,
  joinNetworkNamespace,
  createDeviceNode,
  mount,
  MOUNT,
  pivotRoot,
  replaceProcess,
  unshareMounts,
} from '../ffi/jail.ts';
import { VoltError } from '../volt-error.ts';
import { bindProgram } from './bind-program.ts';

/** Directory, user, namespaces and cgroup of a jail. */
export interface JailOptions {
  readonly directory: string;
  readonly uid: number;
  readonly gid: number;
  /** Path of a network namespace. */
  readonly netns: string | undefined;
  /** Path below /sys/fs/cgroup. */
  readonly cgroup: string | undefined;
}

const CGROUPS = '/sys/fs/cgroup';
const EXECUTABLE = '/volt';
/** Major and minor numbers. (Documentation/admin-guide/devices.txt) */
const DEVICES = [
  ['kvm', 10, 232],
  ['net/tun', 10, 200],
  ['null', 1, 3],
  ['urandom', 1, 9],
] as const;

/**
 * Replaces this process by `volt ARGV` in the jail. Throws VoltError and SyscallError; the process must exit
 * then.
 */
export function enterJail(options: JailOptions, argv: readonly string[]): never {
  if (process.getuid?.() !== 0) {
    throw new VoltError('usage', 'Cannot use --jail: you are not root; run it as root');
  }
  const root = resolve(options.directory);
  if (!existsSync(root) || !statSync(root).isDirectory()) {
    throw new VoltError('usage', `Cannot use --jail ${options.directory}: it is not a directory; create it`);
  }
  if (realpathSync(root) === '/')
    throw new VoltError(
      'usage',
      `Cannot use --jail ${options.directory}: it is the host's root; use a separate directory`,
    );
  const { uid, gid } = options;
  checkSearchable(root, uid);
  if (options.cgroup !== undefined) {
    const path = cgroupPath(options.cgroup);
    checkCgroup(options.cgroup, path);
    joinCgroup(path);
  }
  if (options.netns !== undefined) joinNetworkNamespace(options.netns);
  process.umask(0o022);
  unshareMounts();
  mount(root, root, '', MOUNT.bind | MOUNT.recursive);
  try {
    fillJail(root, uid, gid);
  } catch (error) {
    throw explainFailure(options.directory, error);
  }
  pivotRoot(root);
  switchUser(uid, gid);
  replaceProcess(EXECUTABLE, ['volt', ...argv], ['PATH=/', 'XDG_RUNTIME_DIR=/run']);
}

/** Creates the executable, devices, /proc and /run. */
function fillJail(root: string, uid: number, gid: number): void {
  bindProgram(root, EXECUTABLE);
  const devices = mountPoint(root, 'dev');
  mount('none', devices, 'tmpfs', MOUNT.noSuid | MOUNT.noExecute, 'mode=755,size=64k');
  mkdirSync(join(devices, 'net'));
  for (const [name, major, minor] of DEVICES) createDeviceNode(join(devices, name), major, minor, uid, gid);
  mount('none', mountPoint(root, 'proc'), 'proc', MOUNT.noSuid | MOUNT.noDevices | MOUNT.noExecute);
  const run = mountPoint(root, 'run');
  mount('none', run, 'tmpfs', MOUNT.noSuid | MOUNT.noDevices | MOUNT.noExecute, 'mode=700,size=1m');
  chownSync(run, uid, gid);
}

/**
 * Turns Node's file errors into a VoltError: a read-only or full file system, a file in place of a directory.
 */
function explainFailure(directory: string, error: unknown): unknown {
  const { code, syscall, path } = error as NodeJS.ErrnoException;
  if (error instanceof VoltError || code === undefined || syscall === undefined) return error;
  return new VoltError(
    'host',
    `Cannot use --jail ${directory}: ${syscall} ${path} failed: ${code}; Volt has to create its executable, dev, proc and run there, so the directory must be writable for root`,
    { cause: error },
  );
}

/** The jailed user needs search permission for the directory, or execve fails. */
function checkSearchable(root: string, uid: number): void {
  const { mode, uid: owner } = statSync(root);
  if (owner === uid ? mode & 0o100 : mode & 0o001) return;
  throw new VoltError(
    'usage',
    `Cannot use --jail ${root}: user ${uid} may not enter it, its mode is 0${(mode & 0o777).toString(8)}; use chmod 755`,
  );
}

function cgroupPath(name: string): string {
  const path = resolve(CGROUPS, name);
  if (path.startsWith(`${CGROUPS}/`)) return path;
  throw new VoltError(
    'usage',
    `Cannot use --cgroup ${name}: it is not below ${CGROUPS} (expected a path such as volt/demo)`,
  );
}

/**
 * The nearest existing directory must be a cgroup of the unified hierarchy. Elsewhere mkdir would create an
 * ordinary directory without any limits. (Documentation/admin-guide/cgroup-v2.rst)
 */
function checkCgroup(name: string, path: string): void {
  let existing = path;
  while (!existsSync(existing)) existing = dirname(existing);
  if (existsSync(join(existing, 'cgroup.controllers'))) return;
  throw new VoltError(
    'host',
    `Cannot use --cgroup ${name}: ${existing} is not a cgroup v2; boot this host with cgroup v2 (systemd.unified_cgroup_hierarchy=1), or leave --cgroup out`,
  );
}

function mountPoint(root: string, name: string): string {
  const path = join(root, name);
  mkdirSync(path, { recursive: true });
  return path;
}
