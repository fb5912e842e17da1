/** The terminal of `volt top`: alternate screen and raw mode, restored on every way out. */
import { writeStdout } from './output.ts';

const ENTER = '\x1b[?1049h\x1b[?25l';
const LEAVE = '\x1b[?25h\x1b[?1049l';
const HOME = '\x1b[H';
const CLEAR_LINE = '\x1b[K';
const CLEAR_BELOW = '\x1b[J';
const CTRL_C = '\x03';
const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;
const SMALLEST = { columns: 20, rows: 2 } as const;

export interface Screen extends Disposable {
  /** Resolves with the process's exit code when the user quits by q or Ctrl-C, or a signal arrives. */
  readonly left: Promise<number>;
  readonly size: { readonly columns: number; readonly rows: number };
  draw(lines: readonly string[]): void;
}

/** `onKey` gets all keys except those that quit; `onResize` is called when the window's size changes. */
export function openScreen(onKey: (key: string) => void, onResize: () => void): Screen {
  const { promise: left, resolve: leave } = Promise.withResolvers<number>();
  const { stdin, stdout } = process;
  const keys = stdin.isTTY;
  let open = true;
  const onData = (chunk: Uint8Array) => {
    for (const key of Buffer.from(chunk).toString('latin1')) {
      if (key === 'q' || key === 'Q' || key === CTRL_C) leave(0);
      else onKey(key);
    }
  };
  const listeners = Object.entries(SIGNALS).map(([signal, number]) => {
    const listener = () => leave(128 + number);
    process.on(signal, listener);
    return { signal, listener };
  });
  const close = () => {
    if (!open) return;
    open = false;
    writeStdout(LEAVE);
    if (keys) stdin.setRawMode(false);
    stdin.off('data', onData);
    stdin.pause();
    stdout.off('resize', onResize);
    process.off('exit', close);
    for (const { signal, listener } of listeners) process.off(signal, listener);
  };
  process.on('exit', close);
  stdout.on('resize', onResize);
  if (keys) {
    stdin.setRawMode(true);
    stdin.on('data', onData);
    stdin.resume();
  }
  writeStdout(ENTER);
  return {
    left,
    get size() {
      return {
        columns: Math.max(stdout.columns || 80, SMALLEST.columns),
        rows: Math.max(stdout.rows || 24, SMALLEST.rows),
      };
    },
    draw: (lines) => writeStdout(HOME + lines.map(eraseFirst).join('\r\n')),
    [Symbol.dispose]: close,
  };
}

/** Erases before writing: after a line as wide as the window, the cursor is still on its last character. */
function eraseFirst(line: string, i: number, lines: readonly string[]): string {
  return `${i === lines.length - 1 ? CLEAR_BELOW : CLEAR_LINE}${line}`;
}
