/** seccomp, Landlock, resource limits and the handler of SIGSYS. (seccomp(2), landlock(7), getrlimit(2)) */
import { putU64, viewOf } from '../binary/bytes.ts';
import { PAGE_BYTES } from '../machine/address.ts';
import { ERRNO, SyscallError } from './errno.ts';
import { OPEN, openFile, OwnedFd } from './file.ts';
import { addressOf, arrayBufferAt, checked, libc, type HostPointer } from './libc.ts';
import { MAP, mapMemory, PROT } from './mapping.ts';
import { installSignalHandler, SIGNAL_ACTION } from './signal.ts';

/** x86-64 numbers of the calls that libc has no functions for. (asm/unistd_64.h) */
export const NUMBER = {
  capset: 126,
  prctl: 157,
  seccomp: 317,
  landlockCreateRuleset: 444,
  landlockAddRule: 445,
  landlockRestrictSelf: 446,
} as const;

export const PR_SET_NO_NEW_PRIVS = 38;
export const SECCOMP_SET_MODE_FILTER = 1;
const SECCOMP_GET_ACTION_AVAIL = 2;
const SECCOMP_FILTER_FLAG_TSYNC = 1;
const SECCOMP_RET_TRAP = 0x0003_0000;
const LANDLOCK_CREATE_RULESET_VERSION = 1;
const LANDLOCK_RULE_PATH_BENEATH = 1;
const O_PATH = 0o10000000;
const SIGSYS = 31;
const TCGETS = 0x5401;
/** struct sock_fprog { unsigned short len; struct sock_filter *filter; } */
const FILTER_PROGRAM = { length: 0, filter: 8, size: 16 } as const;
const FILTER_INSTRUCTION_BYTES = 8;

export const RLIMIT = { core: 4, files: 7 } as const;

function systemCall(what: string, number: number, ...given: readonly number[]): number {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = given;
  return checked(Number(libc.syscall(number, a, b, c, d, e, f)), what);
}

/** Whether this kernel has seccomp filters and can raise SIGSYS for a refused call. */
export function hasSeccomp(): boolean {
  const action = new Uint32Array([SECCOMP_RET_TRAP]);
  const address = addressOf(new Uint8Array(action.buffer));
  return Number(libc.syscall(NUMBER.seccomp, SECCOMP_GET_ACTION_AVAIL, 0, address, 0, 0, 0)) === 0;
}

/**
 * Copies a filter program to memory that stays mapped for the life of the process. `installFilter` takes the
 * address, on any thread. Throws SyscallError.
 */
export function placeFilter(program: Uint8Array): HostPointer {
  const address = mapMemory({
    bytes: FILTER_PROGRAM.size + program.length,
    prot: PROT.read | PROT.write,
    flags: MAP.private | MAP.anonymous,
    what: 'a system call filter',
  });
  // SAFETY: just mapped, never unmapped, written only here.
  const bytes = new Uint8Array(arrayBufferAt(address, FILTER_PROGRAM.size + program.length));
  const view = viewOf(bytes);
  view.setUint16(FILTER_PROGRAM.length, program.length / FILTER_INSTRUCTION_BYTES, true);
  putU64(view, FILTER_PROGRAM.filter, address + FILTER_PROGRAM.size);
  bytes.set(program, FILTER_PROGRAM.size);
  return address;
}

/**
 * Installs a placed filter for the calling thread, or for all threads of the process. Throws SyscallError.
 */
export function installFilter(filter: HostPointer, threads: 'this' | 'all'): void {
  const flags = threads === 'all' ? SECCOMP_FILTER_FLAG_TSYNC : 0;
  const result = systemCall('seccomp', NUMBER.seccomp, SECCOMP_SET_MODE_FILTER, flags, filter);
  // With TSYNC a positive result is the id of a thread that cannot take the filter.
  if (result > 0) throw new SyscallError(`seccomp on thread ${result}`, ERRNO.EBUSY);
}

/** Version of Landlock's ABI; 0 if the kernel has no Landlock or has it disabled. */
export function landlockAbi(): number {
  const version = Number(
    libc.syscall(NUMBER.landlockCreateRuleset, 0, 0, LANDLOCK_CREATE_RULESET_VERSION, 0, 0, 0),
  );
  return Math.max(version, 0);
}

/** landlock_create_ruleset(2) with an encoded struct landlock_ruleset_attr. */
export function createRuleset(attributes: Uint8Array): OwnedFd {
  const address = addressOf(attributes);
  return new OwnedFd(
    systemCall('landlock_create_ruleset', NUMBER.landlockCreateRuleset, address, attributes.length),
  );
}

/** landlock_add_rule(2) with an encoded struct landlock_path_beneath_attr. */
export function addPathRule(ruleset: OwnedFd, rule: Uint8Array): void {
  systemCall(
    'landlock_add_rule',
    NUMBER.landlockAddRule,
    ruleset.fd,
    LANDLOCK_RULE_PATH_BENEATH,
    addressOf(rule),
  );
}

/** Opens a path for `addPathRule` alone. Throws SyscallError. */
export function openPath(path: string): OwnedFd {
  return openFile(path, O_PATH | OPEN.readOnly);
}

/**
 * Maps a page of machine code, followed by its data, and makes it the handler of SIGSYS, for good. `build`
 * returns the contents for the address that it is given. Returns a view of the whole mapping. Throws
 * SyscallError.
 */
export function installTrapHandler(bytes: number, build: (address: number) => Uint8Array): Uint8Array {
  const address = mapMemory({
    bytes,
    prot: PROT.read | PROT.write,
    flags: MAP.private | MAP.anonymous,
    what: "the sandbox's handler",
  });
  // SAFETY: just mapped and never unmapped; the first page is not written again, the rest is shared with the
  // handler.
  const page = new Uint8Array(arrayBufferAt(address, bytes));
  page.set(build(address));
  checked(libc.mprotect(address, PAGE_BYTES, PROT.read | PROT.execute), 'mprotect');
  const { sigInfo, restart, noDefer } = SIGNAL_ACTION;
  // SAFETY: the page stays mapped, and its code runs no JavaScript.
  installSignalHandler(SIGSYS, address, sigInfo | restart | noDefer);
  return page;
}

/** Sends SIGSYS to one thread of this process; false if it has ended. */
export function sendTrap(threadId: number): boolean {
  return libc.tgkill(libc.getpid(), threadId, SIGSYS) === 0;
}

/** Reads the kernel's `struct termios` of a terminal into `target`; false if `fd` is not a terminal. */
export function readKernelTermios(fd: number, target: Uint8Array): boolean {
  return libc.ioctl(fd, TCGETS, target) === 0;
}

/** Lowers the soft and the hard limit to `value`; a lower limit stays. Throws SyscallError. */
export function lowerLimit(resource: number, value: number): void {
  const limit = new Uint8Array(16);
  const view = viewOf(limit);
  checked(libc.getrlimit(resource, limit), 'getrlimit');
  const lower = (at: number) => {
    if (view.getBigUint64(at, true) > BigInt(value)) view.setBigUint64(at, BigInt(value), true);
  };
  lower(0);
  lower(8);
  checked(libc.setrlimit(resource, limit), 'setrlimit');
}
