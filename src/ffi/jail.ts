/**
 * System calls that move the calling thread into a jail. They change this thread alone, so an execve, which
 * ends all other threads, has to follow. All throw SyscallError.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { OPEN, openFile } from './file.ts';
import { addressOf, checked, cString, libc } from './libc.ts';

/** (asm/unistd_64.h) */
const NUMBER = {
  chdir: 80,
  setresuid: 117,
  setresgid: 119,
  setgroups: 116,
  mknod: 133,
  chown: 92,
  pivotRoot: 155,
  mount: 165,
  umount2: 166,
  unshare: 272,
  setns: 308,
  execve: 59,
} as const;

const CLONE_NEWNS = 0x2_0000;
const CLONE_NEWNET = 0x4000_0000;
/** MS_*. (linux/mount.h) */
export const MOUNT = {
  readOnly: 0x1,
  noSuid: 0x2,
  noDevices: 0x4,
  noExecute: 0x8,
  remount: 0x20,
  bind: 0x1000,
  recursive: 0x4000,
  private: 0x4_0000,
} as const;
const MNT_DETACH = 2;
const S_IFCHR = 0o020000;

// SAFETY: the kernel only reads the arguments during the call; `given` keeps their arrays alive.
function call(what: string, number: number, ...given: readonly (number | Uint8Array)[]): void {
  const [a = 0, b = 0, c = 0, d = 0, e = 0] = given.map((each) =>
    typeof each === 'number' ? each : addressOf(each),
  );
  checked(Number(libc.syscall(number, a, b, c, d, e, 0)), what);
}

/** Enters a new mount namespace, whose mounts do not propagate to the host. */
export function unshareMounts(): void {
  call('unshare(CLONE_NEWNS)', NUMBER.unshare, CLONE_NEWNS);
  mount('none', '/', '', MOUNT.recursive | MOUNT.private);
}

/** mount(2); `flags` are bits of MOUNT, `options` are specific to the file system. */
export function mount(source: string, target: string, type: string, flags: number, options = ''): void {
  const texts = [source, target, type, options].map(cString);
  call(`mount on ${target}`, NUMBER.mount, texts[0]!, texts[1]!, texts[2]!, flags, texts[3]!);
}

/** Creates a character device node that its owner `uid` may read and write. Numbers below 256. */
export function createDeviceNode(path: string, major: number, minor: number, uid: number, gid: number): void {
  const name = cString(path);
  // makedev(3) for numbers below 256.
  call(`mknod ${path}`, NUMBER.mknod, name, S_IFCHR | 0o600, (major << 8) | minor);
  call(`chown ${path}`, NUMBER.chown, name, uid, gid);
}

/** Makes `directory`, a mount point, the root directory and unmounts the old root. */
export function pivotRoot(directory: string): void {
  call(`chdir ${directory}`, NUMBER.chdir, cString(directory));
  // With both paths equal, the old root is stacked on the new one and can be unmounted. (pivot_root(2),
  // NOTES)
  call('pivot_root', NUMBER.pivotRoot, cString('.'), cString('.'));
  call('umount of the old root', NUMBER.umount2, cString('.'), MNT_DETACH);
  call('chdir /', NUMBER.chdir, cString('/'));
}

/** Joins the network namespace at `path`, such as /run/netns/NAME. */
export function joinNetworkNamespace(path: string): void {
  using namespace = openFile(path, OPEN.readOnly);
  call(`setns ${path}`, NUMBER.setns, namespace.fd, CLONE_NEWNET);
}

/** Moves this process into the cgroup (v2) at `path`, which is created if missing. */
export function joinCgroup(path: string): void {
  mkdirSync(path, { recursive: true });
  writeFileSync(`${path}/cgroup.procs`, '0');
}

/** Drops root and all supplementary groups for good. */
export function switchUser(uid: number, gid: number): void {
  call('setgroups', NUMBER.setgroups, 0, new Uint8Array(4));
  call('setresgid', NUMBER.setresgid, gid, gid, gid);
  call('setresuid', NUMBER.setresuid, uid, uid, uid);
}

/** execve(2): does not return. */
export function replaceProcess(path: string, argv: readonly string[], env: readonly string[]): never {
  const keep: Uint8Array[] = [];
  const pointers = (texts: readonly string[]) => {
    const strings = texts.map(cString);
    const array = new BigUint64Array([...strings.map((text) => BigInt(addressOf(text))), 0n]);
    const bytes = new Uint8Array(array.buffer);
    keep.push(...strings, bytes);
    return bytes;
  };
  call(`execve ${path}`, NUMBER.execve, cString(path), pointers(argv), pointers(env));
  throw new Error(`unreachable ${keep.length}`);
}
