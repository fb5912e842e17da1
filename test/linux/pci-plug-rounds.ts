/**
 * Runs in the nested host: plugs a disk and a network into a guest that runs, uses them there, and unplugs both.
 * Usage: bun pci-plug-rounds.ts VOLT KERNEL INITRD
 */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [volt, kernel, initrd] = process.argv.slice(2) as [string, string, string];
const folder = mkdtempSync(join(tmpdir(), 'volt-plug-'));
process.chdir(folder);
for (const disk of ['first', 'second']) {
  writeFileSync(disk, '');
  truncateSync(disk, 4 * 1024 * 1024);
}
const run = (...argv: string[]) => {
  const { stdout, stderr, exitCode } = Bun.spawnSync(argv, { stdout: 'pipe', stderr: 'pipe' });
  console.log(`${argv.slice(1).join(' ')}: ${exitCode} ${stdout.toString()}${stderr.toString()}`.trim());
};
run('ip', 'tuntap', 'add', 'volt-plug', 'mode', 'tap');
run('ip', 'address', 'add', '10.78.0.1/24', 'dev', 'volt-plug');
run('ip', 'link', 'set', 'volt-plug', 'up');

const socket = join(folder, 'control');
const guest = Bun.spawn(
  [
    ...[volt, '--no-reboot', '--cpus', '2', '--memory', '640M', '--kernel', kernel, '--initrd', initrd],
    ...['--pci', '--disk', 'first', '--control', socket],
    ...['--cmdline', 'console=ttyS0 reboot=k panic=-1 quiet volt.run=check'],
  ],
  { stdin: 'ignore', stdout: 'pipe', stderr: 'inherit' },
);
const ctl = (...words: string[]) => run(volt, 'ctl', socket, ...words);

let seen = '';
const steps: Readonly<Record<string, () => void>> = {
  'VOLT-GUEST waiting for devices': () => {
    ctl('plug', 'disk=path=second,id=data');
    ctl('plug', 'net=tap=volt-plug,id=lan');
    ctl('devices');
  },
  'VOLT-GUEST used them': () => {
    ctl('unplug', 'data');
    ctl('unplug', 'lan');
    ctl('unplug', 'disk0');
    ctl('devices');
  },
};
const decoder = new TextDecoder();
for await (const chunk of guest.stdout) {
  const text = decoder.decode(chunk, { stream: true });
  process.stdout.write(text);
  seen += text;
  for (const [line, step] of Object.entries(steps)) {
    if (!seen.includes(line)) continue;
    seen = seen.slice(seen.indexOf(line) + line.length);
    step();
  }
}
console.log(`guest ended: ${await guest.exited}`);
run('ip', 'link', 'delete', 'volt-plug');
rmSync(folder, { recursive: true });
