/**
 * Starts a program as a child of this thread by posix_spawn(3), which is safe in a process with threads, and what a jailer
 * needs besides. Loaded by the jailer only.
 */
import { dlopen } from 'bun:ffi';
import { SyscallError } from './errno.ts';
import { addressOf, checked, cString, libc } from './libc.ts';

const { symbols } = dlopen('libc.so.6', {
  // int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
  //   char *const argv[], char *const envp[])
  posix_spawn: { args: ['ptr', 'ptr', 'ptr', 'ptr', 'ptr', 'ptr'], returns: 'i32' },
  // int posix_spawnattr_init(posix_spawnattr_t *attr)
  posix_spawnattr_init: { args: ['ptr'], returns: 'i32' },
  // int posix_spawnattr_setflags(posix_spawnattr_t *attr, short flags)
  posix_spawnattr_setflags: { args: ['ptr', 'i32'], returns: 'i32' },
});

/** sizeof(posix_spawnattr_t) of glibc on x86-64. */
const ATTRIBUTES_BYTES = 336;
const POSIX_SPAWN_SETSID = 0x80;
const NUMBER = { unshare: 272, closeRange: 436 } as const;
const CLONE_NEWPID = 0x2000_0000;
const CLOSE_RANGE_CLOEXEC = 4;

/** Starts `path`; returns its process id. With `newSession` it leads a session of its own. Throws SyscallError. */
export function spawnProgram(
  path: string,
  argv: readonly string[],
  env: readonly string[],
  newSession: boolean,
): number {
  const keep: Uint8Array[] = [];
  const pointers = (texts: readonly string[]) => {
    const strings = texts.map(cString);
    const array = new BigUint64Array([...strings.map((text) => BigInt(addressOf(text))), 0n]);
    keep.push(...strings);
    return new Uint8Array(array.buffer);
  };
  const attributes = new Uint8Array(ATTRIBUTES_BYTES);
  const pid = new Int32Array(1);
  // SAFETY: all arrays live until posix_spawn has returned, when the child has its own memory.
  symbols.posix_spawnattr_init(attributes);
  if (newSession) symbols.posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSID);
  const errno = symbols.posix_spawn(pid, cString(path), null, attributes, pointers(argv), pointers(env));
  if (errno !== 0 || keep.length === 0) throw new SyscallError(`posix_spawn ${path}`, errno);
  return pid[0]!;
}

/** The next child is the first process of a new PID namespace. */
export function unsharePids(): void {
  checked(Number(libc.syscall(NUMBER.unshare, CLONE_NEWPID, 0, 0, 0, 0, 0)), 'unshare(CLONE_NEWPID)');
}

/** Closes all descriptors from 3 on when this process executes a program. */
export function closeOnExec(): void {
  checked(
    Number(libc.syscall(NUMBER.closeRange, 3, 0xffff_ffff, CLOSE_RANGE_CLOEXEC, 0, 0, 0)),
    'close_range',
  );
}

/** Soft and hard limit of this process. */
export function setLimit(resource: number, value: bigint): void {
  const limit = new BigUint64Array([value, value]);
  checked(libc.setrlimit(resource, new Uint8Array(limit.buffer)), 'setrlimit');
}

/** Points stdin, stdout and stderr to /dev/null. */
export function silenceStdio(nullFd: number): void {
  for (const fd of [0, 1, 2]) checked(libc.dup2(nullFd, fd), 'dup2');
}
