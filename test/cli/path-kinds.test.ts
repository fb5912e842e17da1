/** Every flag that takes a path meets files of every kind: one line, or a run; never a wait without a word. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, symlinkSync } from 'node:fs';
import { kvmOpens, runVolt, TemporaryFolder } from './volt-process.ts';

setDefaultTimeout(120_000);

const KINDS = ['directory', 'fifo', 'socket', 'dangling', '/dev/null', '/dev/full'] as const;
const FLAGS = [
  '--kernel=',
  '--initrd=',
  '--config=',
  '--symbols=',
  '--disk=',
  '--pmem=path=',
  '--share=path=',
  '--console=file=',
  '--virtio-console=file=',
  '--virtio-console=socket=',
  '--vsock=path=',
  '--control=',
];

/** What may be opened: the folder of a share, a file that is made where a link points, a socket that nobody has. */
const RUNS: Readonly<Record<string, readonly string[]>> = {
  '--share=path=': ['directory'],
  '--console=file=': ['dangling', '/dev/null', '/dev/full'],
  '--virtio-console=file=': ['dangling', '/dev/null', '/dev/full'],
  '--virtio-console=socket=': ['socket'],
  '--vsock=path=': ['socket'],
  '--control=': ['socket'],
};

async function makeKind(folder: TemporaryFolder, kind: (typeof KINDS)[number]): Promise<string> {
  if (kind.startsWith('/')) return kind;
  const path = folder.at('it');
  if (kind === 'directory') mkdirSync(path);
  else if (kind === 'fifo') Bun.spawnSync(['mkfifo', path]);
  else if (kind === 'dangling') symlinkSync('nowhere', path);
  else {
    // A listener that ended leaves its socket behind when it is closed without being asked to remove it.
    Bun.spawnSync(['sh', '-c', 'exec timeout 1 "$0" -e "$1" "$2"', process.execPath, LISTEN, path]);
  }
  return path;
}

/** Binds a Unix socket and is killed, so that the socket stays. */
const LISTEN =
  "require('node:net').createServer().listen(process.argv.at(-1), () => process.kill(process.pid, 'SIGKILL'));";

describe.skipIf(!kvmOpens)('paths (needs /dev/kvm)', () => {
  for (const flag of FLAGS) {
    test.each(KINDS)(`${flag}%s`, async (kind) => {
      using folder = new TemporaryFolder();
      const path = await makeKind(folder, kind);

      const { stderr, exitCode } = await runVolt([`${flag}${path}`, '--cpus', '1', '--cmdline', 'quick']);

      if (RUNS[flag]?.includes(kind)) expect(exitCode).toBe(0);
      else {
        expect(stderr).toMatch(/^volt: Cannot [^\n]+\n$/);
        expect(stderr).not.toContain('defect');
        expect([1, 2]).toContain(exitCode);
      }
    });
  }
});
