/** qemu-storage-daemon and its images, for tests. */
import { readdirSync, readFileSync } from 'node:fs';

export const DAEMON = 'qemu-storage-daemon';
export const lacksDaemon = !Bun.which(DAEMON) || !Bun.which('qemu-img');

/** Runs a program and returns what it prints. Throws where it fails. */
export function runTool(...command: readonly [string, ...string[]]): string {
  const { stdout, stderr, exitCode } = Bun.spawnSync([...command]);
  if (exitCode !== 0) throw new Error(`${command.join(' ')}: ${stderr.toString()}`);
  return stdout.toString();
}

/** Daemons whose command line names a path. */
export function daemonsOf(path: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      const [program = '', ...rest] = commandOf(pid).split('\0');
      return program.endsWith(DAEMON) && rest.join(' ').includes(path);
    })
    .map(Number);
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1');
  } catch {
    return '';
  }
}
