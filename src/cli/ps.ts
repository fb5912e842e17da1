/** `volt ps`: lists this user's running guests. */
import { EXIT_CODE, listSockets } from '../api/index.ts';
import { formatDuration, formatTable } from './ctl-format.ts';
import { writeStdout } from './output.ts';

const MIB = 1024 * 1024;

export interface PsFlags {
  readonly json?: true | undefined;
  readonly quiet?: true | undefined;
}

export async function ps(flags: PsFlags): Promise<number> {
  const guests = await listSockets();
  if (flags.quiet) {
    writeStdout(guests.map(({ pid }) => `${pid}\n`).join(''));
    return EXIT_CODE.ok;
  }
  if (flags.json) {
    const rows = guests.map(({ pid, path, status }) => ({
      ...(status ?? { state: 'not answering' }),
      pid,
      socket: path,
    }));
    writeStdout(`${JSON.stringify(rows, null, 2)}\n`);
    return EXIT_CODE.ok;
  }
  const rows = guests.map(({ pid, path, status }) =>
    status
      ? [
          String(pid),
          String(status.vcpus),
          `${status.memoryBytes / MIB} MiB`,
          formatDuration(status.uptimeMs),
          status.state,
          status.kernel,
          path,
        ]
      : [String(pid), '-', '-', '-', 'not answering', '-', path],
  );
  const header = ['PID', 'VCPUS', 'MEMORY', 'UPTIME', 'STATE', 'KERNEL', 'SOCKET'];
  writeStdout(formatTable(header, rows, [0, 1, 2, 3]));
  return EXIT_CODE.ok;
}
