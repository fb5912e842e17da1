/**
 * Sends this process's stdin to the guest's serial port: a terminal in raw mode, a pipe, a file, or nothing.
 */
import { fstatSync } from 'node:fs';
import { enterRawMode, isForeground, isTerminal } from '../../ffi/terminal.ts';
import { filterEscapeKeys, type EscapeAction } from './escape-keys.ts';

const STDIN = 0;
/** Device 1:3. (Linux Documentation/admin-guide/devices.txt) */
const NULL_DEVICE = (1 << 8) | 3;
/** Time between two attempts to send to a guest whose receive buffer is full. */
const RETRY_MS = 10;

export interface ConsoleInput {
  /** Whether stdin is a terminal in raw mode. */
  readonly interactive: boolean;
  /** Stops reading and restores the terminal. Safe to call twice, and from an exit handler. */
  close(): void;
}

/** `send` returns how many bytes the guest had room for. */
export function openConsoleInput(
  send: (bytes: Uint8Array) => number,
  onAction: (action: EscapeAction) => void,
): ConsoleInput {
  if (!canHaveInput(STDIN)) return { interactive: false, close: () => {} };
  const terminal = isTerminal(STDIN);
  // A background job that touched its terminal would be stopped by SIGTTIN or SIGTTOU.
  if (terminal && !isForeground(STDIN)) return { interactive: false, close: () => {} };
  const restore = terminal ? enterRawMode(STDIN) : undefined;
  let pending = false;
  let closed = false;

  const forward = (bytes: Uint8Array) => {
    if (closed || bytes.length === 0) return;
    const rest = bytes.subarray(send(bytes));
    if (rest.length === 0) {
      process.stdin.resume();
      return;
    }
    process.stdin.pause();
    setTimeout(forward, RETRY_MS, rest);
  };
  const onData = (chunk: Uint8Array) => {
    if (!terminal) {
      forward(chunk);
      return;
    }
    const keys = filterEscapeKeys(chunk, pending);
    pending = keys.pending;
    forward(keys.forward);
    for (const action of keys.actions) onAction(action);
  };
  process.stdin.on('data', onData);
  process.stdin.on('error', () => {});
  return {
    interactive: terminal,
    close() {
      if (closed) return;
      closed = true;
      process.stdin.off('data', onData);
      process.stdin.pause();
      restore?.();
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
    return !(stat.isCharacterDevice() && stat.rdev === NULL_DEVICE);
  } catch {
    return false;
  }
}
