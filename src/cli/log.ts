/** Volt's messages: one line each on stderr, with colour only on a terminal. */
import { fstatSync } from 'node:fs';
import { stderrIsTerminal } from '../api/index.ts';
import { writeStderr } from './output.ts';

export const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export const LOG_FORMATS = ['text', 'json'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

/** `--log-format`, which also applies to the error that ends the command. */
let format: LogFormat = 'text';

export function setLogFormat(wanted: LogFormat): void {
  format = wanted;
}

/** syslog's severities, which systemd reads from a prefix of the line. (sd-daemon(3)) */
const SEVERITY = { error: 3, warn: 4, info: 6, debug: 7 } as const satisfies Record<LogLevel, number>;

const STDERR = 2;

const COLOUR = { error: '31', warn: '33', info: '36', debug: '90' } as const satisfies Record<
  LogLevel,
  string
>;

export type Log = Readonly<Record<LogLevel | 'always', (line: string) => void>>;

export function createLog(level: LogLevel): Log {
  const terminal = stderrIsTerminal();
  const colour = terminal && !process.env['NO_COLOR'];
  // A terminal in raw mode does not turn LF into CR LF; in cooked mode the additional CR has no effect.
  const newline = terminal ? '\r\n' : '\n';
  const journal = !terminal && stderrIsJournal();
  const say = (of: LogLevel, line: string) => {
    if (format === 'json') return writeStderr(jsonLine(of, line));
    const name = colour ? `\x1b[${COLOUR[of]}mvolt:\x1b[0m` : 'volt:';
    writeStderr(`${journal ? `<${SEVERITY[of]}>` : ''}${name} ${oneLine(line)}${newline}`);
  };
  const write = (of: LogLevel) => (line: string) => {
    if (LOG_LEVELS.indexOf(of) <= LOG_LEVELS.indexOf(level)) say(of, line);
  };
  const always = (line: string) => {
    if (format === 'json' || journal) say('info', line);
    else writeStderr(`volt: ${oneLine(line)}${newline}`);
  };
  return { always, error: write('error'), warn: write('warn'), info: write('info'), debug: write('debug') };
}

/**
 * Children of a service inherit the variable, but not always its stderr, so both are compared.
 * (systemd.exec(5))
 */
function stderrIsJournal(): boolean {
  const stream = process.env['JOURNAL_STREAM'];
  if (stream === undefined) return false;
  try {
    const { dev, ino } = fstatSync(STDERR);
    return stream === `${dev}:${ino}`;
  } catch {
    return false;
  }
}

function jsonLine(level: LogLevel, message: string): string {
  const entry = { time: new Date().toISOString(), level, message: oneLine(message), pid: process.pid };
  return `${JSON.stringify(entry)}\n`;
}

/** Replaces line ends and control characters, which text from guests and files may contain. */
export function oneLine(text: string): string {
  return text.replace(/\s*[\r\n]\s*/g, ' ').replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, '?');
}
