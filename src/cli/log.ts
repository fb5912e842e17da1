/** Volt's own words: on stderr, one line each, with colour only on a terminal. */
import { fstatSync, writeSync } from 'node:fs';
import { stderrIsTerminal, VoltError } from '../api/index.ts';

export const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export const LOG_FORMATS = ['text', 'json'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

/** What the command line asked for, for errors that end the command too. */
let format: LogFormat = 'text';

export function setLogFormat(wanted: LogFormat): void {
  format = wanted;
}

/** syslog's severities, which systemd takes at the beginning of a line. (sd-daemon(3)) */
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
  // A console in raw mode does not turn LF into CR LF by itself; in cooked mode the CR does no harm.
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

/** Children of a service inherit the variable, but not always its stderr. (systemd.exec(5), $JOURNAL_STREAM) */
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

/** What guests and files say may hold line ends, and other characters that would steer a terminal. */
export function oneLine(text: string): string {
  return text.replace(/\s*[\r\n]\s*/g, ' ').replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, '?');
}

/** Written at once: a line must be out before the process ends. */
export function writeStderr(text: string): void {
  try {
    writeSync(STDERR, text);
  } catch {
    // stderr is closed or full; there is nobody to tell.
  }
}

/**
 * For commands whose result is text. A reader that went away is no error; a result that could not be written is one:
 * throws VoltError 'host'.
 */
export function writeStdout(text: string): void {
  const bytes = Buffer.from(text, 'utf8');
  for (let done = 0; done < bytes.length;) {
    try {
      done += writeSync(1, bytes, done);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EPIPE') return;
      if (code !== 'EAGAIN')
        throw new VoltError(
          'host',
          `Cannot write to stdout: ${code}; ${text.length - done} bytes of the result are missing`,
        );
      Bun.sleepSync(1);
    }
  }
}

/** For results that come again and again. False when nobody reads any more: `volt ctl … events | head` is to end. */
export function writeLine(line: string): boolean {
  const bytes = Buffer.from(`${line}\n`, 'utf8');
  for (let done = 0; done < bytes.length;) {
    try {
      done += writeSync(1, bytes, done);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return false;
      Bun.sleepSync(1);
    }
  }
  return true;
}
