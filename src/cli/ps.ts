/** `volt ps`: lists this user's guests. */
import { EXIT_CODE, listSockets, type GuestSocket } from '../api/index.ts';
import { listDefinitions, type Definition } from '../api/guests/definitions.ts';
import { formatDuration, formatTable } from './ctl-format.ts';
import { writeStdout } from './output.ts';

const MIB = 1024 * 1024;

export interface PsFlags {
  readonly all?: true | undefined;
  readonly json?: true | undefined;
  readonly quiet?: true | undefined;
  readonly names?: true | undefined;
}

export async function ps(flags: PsFlags): Promise<number> {
  const guests = await listSockets();
  const running = new Set(guests.map(({ name }) => name));
  const stopped = flags.all ? listDefinitions().filter(({ name }) => !running.has(name)) : [];
  writeStdout(format(flags, guests, stopped));
  return EXIT_CODE.ok;
}

function format(
  { json, quiet, names }: PsFlags,
  guests: readonly GuestSocket[],
  stopped: readonly Definition[],
): string {
  if (names || quiet) {
    const running = guests.flatMap(({ name, pid }) => [
      ...(names && name !== undefined ? [name] : []),
      ...(quiet ? [String(pid)] : []),
    ]);
    const words = [...running, ...(names ? stopped.map(({ name }) => name) : [])];
    return words.map((word) => `${word}\n`).join('');
  }
  if (json) return `${JSON.stringify([...guests.map(toJson), ...stopped.map(stoppedToJson)], null, 2)}\n`;
  const header = ['PID', 'NAME', 'VCPUS', 'MEMORY', 'UPTIME', 'STATE', 'KERNEL', 'SOCKET'];
  const rows = [...guests.map(toRow), ...stopped.map(stoppedToRow)];
  return formatTable(header, rows, [0, 2, 3, 4]);
}

function toJson({ pid, name, path, status }: GuestSocket) {
  return {
    ...(status ?? { state: 'not answering' }),
    pid,
    ...(name === undefined ? {} : { name }),
    socket: path,
  };
}

function stoppedToJson({ name, path }: Definition) {
  return { state: 'stopped', name, config: path };
}

function toRow({ pid, name = '-', path, status }: GuestSocket): string[] {
  if (!status) return [String(pid), name, '-', '-', '-', 'not answering', '-', path];
  return [
    String(pid),
    name,
    String(status.vcpus),
    `${status.memoryBytes / MIB} MiB`,
    formatDuration(status.uptimeMs),
    status.state,
    status.kernel,
    path,
  ];
}

function stoppedToRow({ name }: Definition): string[] {
  return ['-', name, '-', '-', '-', 'stopped', '-', '-'];
}
