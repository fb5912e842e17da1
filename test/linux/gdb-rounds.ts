/**
 * Runs where Linux guests can: gdb on a Linux with two CPUs. With `breakpoints` it uses some.
 * Usage: bun gdb-rounds.ts VMLINUX INITRD [breakpoints]
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { startGuest } from './guest-session.ts';

const VOLT = resolve(import.meta.dir, '../../volt');
const [vmlinux = '', initrd = '', breakpoints] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), 'volt-gdb-'));
const socket = join(folder, 'control.sock');
const core = join(folder, 'core');

const guest = startGuest([
  ...[VOLT, 'run', '--cpus', '2', '--memory', '256M', '--kernel', vmlinux, '--initrd', initrd],
  ...['--cmdline', 'console=ttyS0 reboot=k panic=-1 quiet volt.run=check', '--control', socket],
]);
await guest.until('VOLT-GUEST beat 2', 200);

const TO_BREAKPOINTS = [
  `break *${addressOf('__x64_sys_clock_nanosleep', '__x64_sys_nanosleep')}`,
  'continue',
  'delete',
  `watch *(unsigned long *) ${addressOf('jiffies')}`,
  'continue',
  'delete',
];

await gdb([
  `target remote | ${VOLT} ctl ${socket} gdb`,
  ...(breakpoints === undefined ? [] : TO_BREAKPOINTS),
  'info threads',
  'print $cr0',
  'set scheduler-locking on',
  'set var $at = (long) $pc',
  'stepi',
  'stepi',
  'stepi',
  'echo stepped\\ ',
  'output (long) $pc != $at',
  'echo \\n',
  'set scheduler-locking off',
  'echo banner:\\ ',
  `x/s ${addressOf('linux_banner')}`,
  'detach',
]);

const dump = Bun.spawnSync([VOLT, 'ctl', socket, 'dump', core, '--json']);
console.log(`dump: ${JSON.stringify(JSON.parse(dump.stdout.toString()))}${dump.stderr.toString()}`);
const inCore = await gdb([
  `core-file ${core}`,
  'info threads',
  'echo core banner:\\ ',
  `x/s ${addressOf('linux_banner')}`,
]);
console.log(`core threads: ${inCore.match(/LWP \d+ .* in /g)?.length}`);

const before = beats();
for (let waited = 0; beats() < before + 3 && waited < 60; waited += 0.1) await Bun.sleep(100);
console.log(beats() >= before + 3 ? 'it beats on' : `it stands:\n${guest.text().slice(-2000)}`);
Bun.spawnSync([VOLT, 'ctl', socket, 'stop']);
await guest.ended;
rmSync(folder, { recursive: true });
process.exit(0);

function beats(): number {
  return guest.text().match(/VOLT-GUEST beat/g)?.length ?? 0;
}

/** The first of these symbols that the guest has. */
function addressOf(...names: readonly string[]): string {
  for (const name of names) {
    const found = new RegExp(`symbol ${name}=(0x[0-9a-f]+)`).exec(guest.text());
    if (found) return found[1]!;
  }
  throw new Error(`The guest has none of ${names.join(', ')}:\n${guest.text()}`);
}

async function gdb(commands: readonly string[]): Promise<string> {
  const script = join(folder, 'script.gdb');
  await Bun.write(script, ['set pagination off', 'set confirm off', ...commands, ''].join('\n'));
  const child = Bun.spawn(['gdb', '-nx', '-batch', '-x', script], {
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    timeout: 120_000,
  });
  const [out, errors] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  console.log(`${out}${errors}`);
  return `${out}${errors}`;
}
