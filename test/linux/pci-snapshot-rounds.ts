/**
 * Runs in the nested host: a guest on PCI gets another disk, is saved under I/O, and goes on in another process.
 * Usage: bun pci-snapshot-rounds.ts VOLT KERNEL INITRD
 */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [volt, kernel, initrd] = process.argv.slice(2) as [string, string, string];
const folder = mkdtempSync(join(tmpdir(), 'volt-pci-saved-'));
process.chdir(folder);
for (const disk of ['first', 'second']) {
  writeFileSync(disk, '');
  truncateSync(disk, 1024 * 1024);
}
const run = (...argv: string[]) => {
  const { stdout, stderr, exitCode } = Bun.spawnSync(argv, { stdout: 'pipe', stderr: 'pipe' });
  console.log(`${argv.slice(1).join(' ')}: ${exitCode} ${stdout.toString()}${stderr.toString()}`.trim());
};
run('ip', 'tuntap', 'add', 'volt-saved', 'mode', 'tap');
run('ip', 'address', 'add', '10.79.0.1/24', 'dev', 'volt-saved');
run('ip', 'link', 'set', 'volt-saved', 'up');
const socket = join(folder, 'control');

/** Prints what the guest does, calls `step` once after `line`, and resolves when Volt ends. */
async function follow(argv: readonly string[], line?: string, step?: () => void): Promise<void> {
  const guest = Bun.spawn([volt, ...argv], { stdin: 'ignore', stdout: 'pipe', stderr: 'inherit' });
  const decoder = new TextDecoder();
  let seen = '';
  for await (const chunk of guest.stdout) {
    const text = decoder.decode(chunk, { stream: true });
    process.stdout.write(text);
    seen += text;
    if (line === undefined || !seen.includes(line)) continue;
    line = undefined;
    step?.();
  }
  console.log(`volt ended: ${await guest.exited}`);
}

const cmdline = 'console=ttyS0 reboot=k panic=-1 quiet volt.run=check';
await follow(
  [
    ...['--no-reboot', '--cpus', '2', '--memory', '320M', '--kernel', kernel, '--initrd', initrd],
    ...['--pci', '--disk', 'first', '--net', 'tap=volt-saved', '--control', socket, '--cmdline', cmdline],
  ],
  'VOLT-GUEST round 2',
  () => {
    run(volt, 'ctl', socket, 'plug', 'disk=second');
    run(volt, 'ctl', socket, 'snapshot', 'saved', '--stop');
  },
);
await follow(['restore', 'saved', '--no-reboot']);
run('ip', 'link', 'delete', 'volt-saved');
rmSync(folder, { recursive: true });
