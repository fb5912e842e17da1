/** The log in Firecracker's format: on stdout, or in a file or FIFO that never blocks. */
import { constants, openSync, writeSync } from 'node:fs';
import type { LoggerBody, LogLevel } from './request/bodies.ts';
import { ActionFault } from './model/fault.ts';
import { describeOsError } from './os-error.ts';

const STDOUT = 1;
const SEVERITY: Readonly<Record<LogLevel, number>> = {
  Off: 0,
  Error: 1,
  Warn: 2,
  Info: 3,
  Debug: 4,
  Trace: 5,
};
const NAMES = { Error: 'ERROR', Warn: 'WARN', Info: 'INFO', Debug: 'DEBUG', Trace: 'TRACE' } as const;
type LineLevel = keyof typeof NAMES;
/** Threads whose names Firecracker's log lines have. */
export type LogThread = 'main' | 'fc_api';
/** Modules of Firecracker that messages come from, which `module` selects. */
const MODULE_OF: Readonly<Record<LogThread, string>> = {
  main: 'firecracker',
  fc_api: 'firecracker::api_server',
};

/** Files that messages come from. Their lines are not known: a compiled program has none. */
const ORIGIN_OF: Readonly<Record<LogThread, string>> = {
  main: 'src/api/firecracker/controller.ts',
  fc_api: 'src/api/firecracker/persona.ts',
};

export type Log = Readonly<Record<'error' | 'warn' | 'info' | 'debug', (text: string) => void>>;

/** Opens a file or FIFO for writing. Throws the error of node:fs. */
export function openOutput(path: string): number {
  // Also for reading, so that a FIFO without a reader can be opened.
  return openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NONBLOCK, 0o644);
}

export class Logger {
  readonly #id: string;
  #fd = STDOUT;
  #level: LogLevel = 'Info';
  #showLevel = false;
  #showOrigin = false;
  #module = '';
  /** Lines that could not be written. */
  missed = 0;

  constructor(id: string) {
    this.#id = id;
  }

  /** Throws ActionFault if the file cannot be opened; nothing is changed then. */
  configure(body: LoggerBody): void {
    if (body.log_path !== null) {
      try {
        this.#fd = openOutput(body.log_path);
      } catch (error) {
        throw new ActionFault(`Failed to open target file: ${describeOsError(error)}`);
      }
    }
    this.#level = body.level ?? 'Info';
    this.#showLevel = body.show_level ?? this.#showLevel;
    this.#showOrigin = body.show_log_origin ?? this.#showOrigin;
    this.#module = body.module ?? this.#module;
  }

  get showsDebug(): boolean {
    return SEVERITY[this.#level] >= SEVERITY.Debug;
  }

  on(thread: LogThread): Log {
    const write = (level: LineLevel) => (text: string) => this.#write(thread, level, text);
    return { error: write('Error'), warn: write('Warn'), info: write('Info'), debug: write('Debug') };
  }

  #write(thread: LogThread, level: LineLevel, text: string): void {
    if (SEVERITY[level] > SEVERITY[this.#level] || !MODULE_OF[thread].startsWith(this.#module)) return;
    const shownLevel = this.#showLevel ? `:${NAMES[level]}` : '';
    const origin = this.#showOrigin ? `:${ORIGIN_OF[thread]}:0` : '';
    const line = `${localTime()} [${this.#id}:${thread}${shownLevel}${origin}] ${text}\n`;
    try {
      writeSync(this.#fd, line);
    } catch {
      this.missed++;
    }
  }
}

/** `2026-11-28T05:10:15.046348578`, in local time. */
function localTime(): string {
  const nanoseconds = BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n;
  const date = new Date(Number(nanoseconds / 1_000_000n));
  const two = (value: number) => String(value).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return `${day}T${time}.${String(nanoseconds % 1_000_000_000n).padStart(9, '0')}`;
}
