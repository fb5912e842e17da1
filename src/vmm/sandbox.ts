/**
 * Takes all privileges from this process that running a guest does not need: capabilities and any way to gain
 * them, system calls other than those of sandbox/rules.ts, files other than those named here. Entered once,
 * when everything is open and before the first guest instruction, and for good. Descriptors stay open.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { getU64, putU64, viewOf } from '../binary/bytes.ts';
import { addressOf, type HostPointer } from '../ffi/libc.ts';
import {
  addPathRule,
  createRuleset,
  hasSeccomp,
  installFilter,
  installTrapHandler,
  landlockAbi,
  lowerLimit,
  NUMBER,
  openPath,
  placeFilter,
  PR_SET_NO_NEW_PRIVS,
  readKernelTermios,
  RLIMIT,
  sendTrap,
} from '../ffi/sandbox.ts';
import { raiseOpenFilesLimit } from '../ffi/limits.ts';
import { pauseThread } from '../ffi/thread.ts';
import { isTerminal } from '../ffi/terminal.ts';
import { encodePathRule, encodeRuleset, FS_RIGHT } from '../sandbox/landlock.ts';
import { NEVER, OPTIONAL_DEVICES } from '../sandbox/optional-devices.ts';
import { loadSandbox, type PrebuiltFilter, type PrebuiltPage } from '../sandbox/prebuilt.ts';
import { CALL_ROW, TRAP_PAGE } from '../sandbox/trap-page.ts';
import { VoltError } from '../volt-error.ts';
import { sourceDirectory } from '../runtime/worker-url.ts';
import { FILES_PER_VCPU } from './open-files.ts';

export interface SandboxOptions {
  readonly cpus: number;
  /** Files that are read after a reset of the guest, or later for the first time. */
  readonly reads: readonly string[];
  /** Directories at and below which files may be read, written and created while the guest runs. */
  readonly writes: readonly string[];
  /** Directories of sockets that Volt removes when it ends. */
  readonly removesIn: readonly string[];
  /** Connections that devices may open, each of which takes a descriptor. */
  readonly connections: number;
  /** Kinds of the guest's devices, and `files` with `writes`; OPTIONAL_DEVICES need system calls of their own. */
  readonly devices: ReadonlySet<string>;
}

/** Filters from `placeFilter`, which each thread of a class installs for itself. */
export interface ThreadFilters {
  readonly vcpu: HostPointer;
  readonly device: HostPointer;
}

export interface Sandbox {
  readonly filters: ThreadFilters | undefined;
  readonly landlockAbi: number;
  /** Features that this host lacks. */
  readonly missing: readonly string[];
}

const STDIN = 0;
/** Descriptors of devices, clients and files. */
const OTHER_FILES = 512;
const READ = FS_RIGHT.readFile | FS_RIGHT.readDir;
const WRITE =
  FS_RIGHT.readFile | FS_RIGHT.writeFile | FS_RIGHT.makeRegular | FS_RIGHT.truncate | FS_RIGHT.ioctlDevice;
/** For all threads of the process to run the signal handler. */
const THREADS_TIMEOUT_MS = 2000;
/** After this, threads that have ended are looked for. */
const RECOUNT_MS = 20;
const POLL_MICROSECONDS = 20;

/** _LINUX_CAPABILITY_VERSION_3 */
const CAPABILITY_VERSION = 0x2008_0522;

/** Features for the sandbox that this host lacks; empty if it has all. */
export function missingForSandbox(): string[] {
  return [...(hasSeccomp() ? [] : ['seccomp filters']), ...(landlockAbi() > 0 ? [] : ['Landlock'])];
}

/**
 * Throws SyscallError and VoltError 'host', after which the process must end: parts of it may be in force.
 */
export function enterSandbox(options: SandboxOptions): Sandbox {
  const abi = landlockAbi();
  const prebuilt = loadSandbox();
  const page = installTrapHandler(TRAP_PAGE.size, (address) => relocatePage(prebuilt.trapPage, address));
  saveTerminal(page);
  lowerLimit(RLIMIT.core, 0);
  const files = options.cpus * FILES_PER_VCPU + OTHER_FILES + options.connections;
  raiseOpenFilesLimit(files);
  lowerLimit(RLIMIT.files, files);
  using ruleset = abi > 0 ? buildRuleset(abi, options) : undefined;
  const capabilities = emptyCapabilities();
  const capset = [NUMBER.capset, addressOf(capabilities), addressOf(capabilities) + 8];
  callOnEveryThread(page, [
    [NUMBER.prctl, PR_SET_NO_NEW_PRIVS, 1],
    ...(ruleset ? [[NUMBER.landlockRestrictSelf, ruleset.fd, 0]] : []),
    // A process without capabilities may be forbidden the call, as by volt@.service.
    ...(hasCapabilities() ? [capset] : []),
  ]);
  const missing = missingForSandbox();
  const place = (filter: PrebuiltFilter) => placeFilter(completeFilter(filter, process.pid, options.devices));
  const { process: processFilter, vcpu, device } = prebuilt.filters;
  const filters = hasSeccomp() ? { vcpu: place(vcpu), device: place(device) } : undefined;
  if (filters) installFilter(place(processFilter), 'all');
  return { filters, landlockAbi: abi, missing };
}

/** Fills in this process's id, and disables the calls of devices that the guest does not have. */
function completeFilter(
  { base64, pids, optional }: PrebuiltFilter,
  pid: number,
  devices: ReadonlySet<string>,
): Uint8Array {
  const program = Buffer.from(base64, 'base64');
  for (const at of pids) program.writeUInt32LE(pid, at);
  for (const device of OPTIONAL_DEVICES) {
    if (devices.has(device)) continue;
    for (const at of optional[device]) program.writeUInt32LE(NEVER, at);
  }
  return program;
}

function relocatePage({ base64, addresses }: PrebuiltPage, address: number): Uint8Array {
  const page = Buffer.from(base64, 'base64');
  const view = viewOf(page);
  for (const at of addresses) putU64(view, at, getU64(view, at) + address);
  return page;
}

/** Saves the terminal's mode for the handler, which restores it because no other code runs afterwards. */
function saveTerminal(page: Uint8Array): void {
  const termios = page.subarray(TRAP_PAGE.termios, TRAP_PAGE.error);
  if (!readKernelTermios(STDIN, termios)) return;
  viewOf(page).setUint32(TRAP_PAGE.restoresTerminal, 1, true);
}

function buildRuleset(abi: number, { reads, writes, removesIn }: SandboxOptions) {
  const ruleset = createRuleset(encodeRuleset(abi));
  const allow = (path: string, rights: number) => {
    if (!existsSync(path)) return;
    using target = openPath(path);
    addPathRule(ruleset, encodePathRule(abi, rights, target.fd));
  };
  allow(`/proc/${process.pid}`, READ);
  allow('/sys/devices/system/cpu', READ);
  allow('/sys/devices/system/node', READ);
  for (const path of reads) allow(path, FS_RIGHT.readFile);
  for (const directory of writes) allow(directory, WRITE);
  const source = sourceDirectory();
  if (source !== undefined) allow(source, READ);
  for (const directory of new Set(removesIn)) allow(directory, FS_RIGHT.removeFile);
  // The runtime opens the terminal on stdin again, by name.
  if (isTerminal(STDIN)) allow(readlinkSync('/proc/self/fd/0'), FS_RIGHT.readFile | FS_RIGHT.ioctlDevice);
  return ruleset;
}

/**
 * `struct __user_cap_header_struct` for the calling thread, followed by two `struct __user_cap_data_struct`
 * of zeroes: no capabilities.
 */
function emptyCapabilities(): Uint8Array {
  const bytes = new Uint8Array(8 + 2 * 12);
  viewOf(bytes).setUint32(0, CAPABILITY_VERSION, true);
  return bytes;
}

/** Whether this process has any; its threads have inherited those of the first. (capabilities(7)) */
function hasCapabilities(): boolean {
  return !/^CapInh:\t0+\nCapPrm:\t0+\nCapEff:\t0+$/m.test(readFileSync('/proc/self/status', 'latin1'));
}

/**
 * Makes the calls, each a number with its arguments, on every thread of this process. Throws VoltError
 * 'host'.
 */
function callOnEveryThread(page: Uint8Array, calls: readonly (readonly number[])[]): void {
  const view = viewOf(page);
  calls.forEach((call, row) => {
    for (let i = 0; i < CALL_ROW.size / 8; i++) {
      putU64(view, TRAP_PAGE.calls + row * CALL_ROW.size + 8 * i, call[i] ?? 0);
    }
  });
  const end = TRAP_PAGE.calls + calls.length * CALL_ROW.size;
  view.setBigInt64(end, -1n, true);
  const words = new Int32Array(page.buffer, page.byteOffset);
  const reached = new Set<string>();
  let sent = 0;
  // Repeated until no thread is new: one that was not reached yet may have created another.
  for (let fresh = threadsBeyond(reached); fresh.length > 0; fresh = threadsBeyond(reached)) {
    for (const thread of fresh) {
      reached.add(thread);
      if (sendTrap(Number(thread))) sent++;
    }
    awaitThreads(words, sent, reached);
  }
  view.setBigInt64(TRAP_PAGE.calls, -1n, true);
  const error = view.getInt32(TRAP_PAGE.error, true);
  if (error < 0) {
    throw new VoltError(
      'host',
      `Cannot enter the sandbox: a thread's system call failed with errno ${-error}; --no-sandbox runs without it`,
    );
  }
}

/**
 * Waits for `sent` threads. Threads that have ended may not have run the handler; they are not waited for.
 */
function awaitThreads(words: Int32Array, sent: number, reached: ReadonlySet<string>): void {
  const started = performance.now();
  for (;;) {
    const done = Atomics.load(words, TRAP_PAGE.done / 4);
    if (done >= sent) return;
    const waited = performance.now() - started;
    if (waited > RECOUNT_MS && done >= sent - countEnded(reached)) return;
    if (waited > THREADS_TIMEOUT_MS) {
      throw new VoltError(
        'host',
        `Cannot enter the sandbox: ${sent - done} of ${sent} threads did not run its signal handler within ${THREADS_TIMEOUT_MS} ms; --no-sandbox runs without it`,
      );
    }
    pauseThread(POLL_MICROSECONDS);
  }
}

function threadsBeyond(reached: ReadonlySet<string>): string[] {
  return readdirSync('/proc/self/task').filter((thread) => !reached.has(thread));
}

/** How many of the threads have ended. */
function countEnded(reached: ReadonlySet<string>): number {
  const alive = new Set(readdirSync('/proc/self/task'));
  return [...reached].filter((thread) => !alive.has(thread)).length;
}
