/**
 * Sends this process's stdin to the guest's serial port: a terminal in raw mode, a pipe, a file, or nothing.
 */
import { fstatSync } from 'node:fs';
import { enterRawMode, isForeground, isTerminal } from '../../ffi/terminal.ts';
import { filterEscapeKeys, OWN_KEYS, type EscapeAction } from './escape-keys.ts';

const STDIN = 0;
/** Device 1:3. (Linux Documentation/admin-guide/devices.txt) */
const NULL_DEVICE = (1 << 8) | 3;
/** Time between two attempts to send to a guest whose receive buffer is full. */
const RETRY_MS = 10;

/** How often the terminal's foreground process group is checked, which a shell's `fg` and `bg` change. */
const FOREGROUND_CHECK_MS = 250;

export interface ConsoleInput {
  /** Whether stdin is a terminal. */
  readonly isTerminal: boolean;
  /** Stops reading and restores the terminal. Safe to call twice, and from an exit handler. */
  close(): void;
}

/**
 * `send` returns how many bytes the guest had room for. `onTaken` is called when a terminal is put into raw
 * mode for the first time.
 */
export function openConsoleInput(
  send: (bytes: Uint8Array) => number,
  onAction: (action: EscapeAction) => void,
  onTaken: () => void,
  keys: Readonly<Record<string, EscapeAction>> = OWN_KEYS,
): ConsoleInput {
  if (!canHaveInput(STDIN)) return { isTerminal: false, close: () => {} };
  return isTerminal(STDIN) ? readTerminal(send, onAction, onTaken, keys) : readStream(send);
}

function readStream(send: (bytes: Uint8Array) => number): ConsoleInput {
  const reader = createReader(send);
  reader.start((chunk) => reader.forward(chunk));
  return { isTerminal: false, close: () => reader.stop() };
}

/**
 * The terminal is in raw mode, and read, whenever this process is in its foreground. A background job that
 * used it would be stopped by SIGTTIN or SIGTTOU, and a shell sets its own mode.
 */
function readTerminal(
  send: (bytes: Uint8Array) => number,
  onAction: (action: EscapeAction) => void,
  onTaken: () => void,
  escapeKeys: Readonly<Record<string, EscapeAction>>,
): ConsoleInput {
  const reader = createReader(send);
  let isPending = false;
  let wasTaken = false;
  let restore: (() => void) | undefined;
  const onData = (chunk: Uint8Array) => {
    const keys = filterEscapeKeys(chunk, isPending, escapeKeys);
    isPending = keys.pending;
    reader.forward(keys.forward);
    for (const action of keys.actions) onAction(action);
  };
  const leave = () => {
    reader.stop();
    restore = undefined;
  };
  const follow = () => {
    if (!isForeground(STDIN)) {
      if (restore) leave();
      return;
    }
    if (restore) return;
    restore = enterRawMode(STDIN);
    reader.start(onData);
    if (!wasTaken) onTaken();
    wasTaken = true;
  };
  // While this process was stopped, the shell has changed the mode.
  const afterStop = () => {
    if (restore) leave();
    follow();
  };
  follow();
  process.on('SIGCONT', afterStop);
  const timer = setInterval(follow, FOREGROUND_CHECK_MS);
  return {
    isTerminal: true,
    close() {
      clearInterval(timer);
      process.off('SIGCONT', afterStop);
      reader.stop();
      restore?.();
      restore = undefined;
    },
  };
}

/** Reads stdin as fast as the guest takes the bytes. */
function createReader(send: (bytes: Uint8Array) => number) {
  let onData: ((chunk: Uint8Array) => void) | undefined;
  const forward = (bytes: Uint8Array) => {
    if (!onData || bytes.length === 0) return;
    const rest = bytes.subarray(send(bytes));
    if (rest.length === 0) {
      process.stdin.resume();
      return;
    }
    process.stdin.pause();
    setTimeout(forward, RETRY_MS, rest);
  };
  const ignoreError = () => {};
  return {
    forward,
    start(handler: (chunk: Uint8Array) => void) {
      onData = handler;
      process.stdin.on('error', ignoreError);
      process.stdin.on('data', handler);
      process.stdin.resume();
    },
    stop() {
      if (!onData) return;
      process.stdin.off('data', onData);
      process.stdin.off('error', ignoreError);
      onData = undefined;
      process.stdin.pause();
    },
  };
}

/**
 * False for a closed descriptor and for /dev/null, which spares the 2 ms that loading the streams of stdin
 * takes.
 */
function canHaveInput(fd: number): boolean {
  try {
    const stat = fstatSync(fd);
    return !stat.isDirectory() && !(stat.isCharacterDevice() && stat.rdev === NULL_DEVICE);
  } catch {
    return false;
  }
}
