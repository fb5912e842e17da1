/**
 * Least privilege for the rest of the process's life: no capabilities, no way to gain any, no system calls but those of
 * sandbox/rules.ts, no files but those that are named here. Entered once, when everything is open and before the first
 * guest instruction. What was opened before stays open.
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
  /** Files that are opened again when the guest resets itself, or later for the first time. */
  readonly reads: readonly string[];
  /** Directories in which Volt removes a file at its end: those of sockets. */
  readonly removesIn: readonly string[];
  /** Connections that devices may open, each of which takes a descriptor. */
  readonly connections: number;
  /** Kinds of the guest's devices; those of OPTIONAL_DEVICES need system calls of their own. */
  readonly devices: ReadonlySet<string>;
}

/** Placed filters, for each thread of a class to lay over itself. */
export interface ThreadFilters {
  readonly vcpu: HostPointer;
  readonly device: HostPointer;
}

export interface Sandbox {
  readonly filters: ThreadFilters | undefined;
  readonly landlockAbi: number;
  /** What this host lacks. */
  readonly missing: readonly string[];
}

const STDIN = 0;
/** Sockets, clients, files. */
const FILES_BESIDES = 512;
const READ = FS_RIGHT.readFile | FS_RIGHT.readDir;
/** How long the threads of the runtime may take to run a signal handler. */
const THREADS_TIMEOUT_MS = 2000;
const LOOK_AFTER_MS = 20;
const POLL_MICROSECONDS = 20;

/** _LINUX_CAPABILITY_VERSION_3 */
const CAPABILITY_VERSION = 0x2008_0522;

/** What keeps a sandbox from being there; empty where it can be whole. */
export function missingForSandbox(): string[] {
  return [...(hasSeccomp() ? [] : ['seccomp filters']), ...(landlockAbi() > 0 ? [] : ['Landlock'])];
}

/** Throws SyscallError and VoltError 'host'; the process should end then, for part of it may be in force. */
export function enterSandbox(options: SandboxOptions): Sandbox {
  const abi = landlockAbi();
  const prebuilt = loadSandbox();
  const page = installTrapHandler(TRAP_PAGE.size, (address) => relocatePage(prebuilt.trapPage, address));
  noteTerminal(page);
  lowerLimit(RLIMIT.core, 0);
  const files = options.cpus * FILES_PER_VCPU + FILES_BESIDES + options.connections;
  raiseOpenFilesLimit(files);
  lowerLimit(RLIMIT.files, files);
  using ruleset = abi > 0 ? buildRuleset(abi, options) : undefined;
  const capabilities = emptyCapabilities();
  const capset = [NUMBER.capset, addressOf(capabilities), addressOf(capabilities) + 8];
  callOnEveryThread(page, [
    [NUMBER.prctl, PR_SET_NO_NEW_PRIVS, 1],
    ...(ruleset ? [[NUMBER.landlockRestrictSelf, ruleset.fd, 0]] : []),
    // Who has none may be forbidden the call, as by volt@.service.
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

/** A terminal in raw mode has to be restored by the handler, since nothing runs after it. */
function noteTerminal(page: Uint8Array): void {
  const termios = page.subarray(TRAP_PAGE.termios, TRAP_PAGE.error);
  if (!readKernelTermios(STDIN, termios)) return;
  viewOf(page).setUint32(TRAP_PAGE.restoresTerminal, 1, true);
}

function buildRuleset(abi: number, { reads, removesIn }: SandboxOptions) {
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
  const source = sourceDirectory();
  if (source !== undefined) allow(source, READ);
  for (const directory of new Set(removesIn)) allow(directory, FS_RIGHT.removeFile);
  // The runtime opens the terminal on stdin again, by its name.
  if (isTerminal(STDIN)) allow(readlinkSync('/proc/self/fd/0'), FS_RIGHT.readFile | FS_RIGHT.ioctlDevice);
  return ruleset;
}

/** struct __user_cap_header_struct and behind it two of __user_cap_data_struct, all zero: this thread, nothing. */
function emptyCapabilities(): Uint8Array {
  const bytes = new Uint8Array(8 + 2 * 12);
  viewOf(bytes).setUint32(0, CAPABILITY_VERSION, true);
  return bytes;
}

/** Whether this process could use any. Threads got theirs from the first, so they have no others. (capabilities(7)) */
function hasCapabilities(): boolean {
  return !/^CapInh:\t0+\nCapPrm:\t0+\nCapEff:\t0+$/m.test(readFileSync('/proc/self/status', 'latin1'));
}

/** Makes system calls, rows of a number and its arguments, on every thread that this process has. */
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
  // Again until no thread is new: one that was not reached yet may have made another.
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
      `Cannot enter the sandbox: errno ${-error} on a thread (expected none; --no-sandbox runs without it)`,
    );
  }
}

/** Threads that ended meanwhile may or may not have followed; they are looked for only when it takes long. */
function awaitThreads(words: Int32Array, sent: number, reached: ReadonlySet<string>): void {
  const started = performance.now();
  for (;;) {
    const done = Atomics.load(words, TRAP_PAGE.done / 4);
    if (done >= sent) return;
    const waited = performance.now() - started;
    if (waited > LOOK_AFTER_MS && done >= sent - countGone(reached)) return;
    if (waited > THREADS_TIMEOUT_MS) {
      throw new VoltError(
        'host',
        `Cannot enter the sandbox: ${sent - done} of ${sent} threads did not follow (expected all; --no-sandbox runs without it)`,
      );
    }
    pauseThread(POLL_MICROSECONDS);
  }
}

function threadsBeyond(reached: ReadonlySet<string>): string[] {
  return readdirSync('/proc/self/task').filter((thread) => !reached.has(thread));
}

/** Threads that ended meanwhile, which may or may not have followed. */
function countGone(reached: ReadonlySet<string>): number {
  const alive = new Set(readdirSync('/proc/self/task'));
  return [...reached].filter((thread) => !alive.has(thread)).length;
}
