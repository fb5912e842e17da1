/**
 * Uses a Debian image as its owner would: boots it, logs in on the console, looks around, presses the power button.
 * Usage: bun debian-console.ts VOLT CONFIG PASSWORD. The image is copied and stands behind an overlay. The network is passt's;
 * /page is a file on the host's loopback.
 *
 * Prints what it saw as JSON, or the end of the console where that was not what it waited for.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { materializeOverlay } from './overlay-image.ts';

const [volt, config, password] = process.argv.slice(2) as [string, string, string];
const folder = mkdtempSync('/tmp/volt-debian-');
const [base, overlay, whole] = ['base', 'overlay', 'whole'].map((name) => join(folder, name)) as [
  string,
  string,
  string,
];
const given = JSON.parse(readFileSync(config, 'utf8'));
const image: string = given.drives[0].path_on_host;
Bun.spawnSync(['cp', '--sparse=always', image, base]);
const drives = [{ ...given.drives[0], path_on_host: base, overlay }];
await Bun.write(join(folder, 'config.json'), JSON.stringify({ ...given, drives }));

const startedAt = performance.now();
const guest = Bun.spawn(
  [volt, 'run', '--config', join(folder, 'config.json'), '--net', 'user', '--shutdown-timeout', '200'],
  {
    stdin: 'pipe',
    stdout: 'pipe',
    stderr: 'inherit',
  },
);
const reader = guest.stdout.getReader();
let screen = '';

await waitFor(/debian login: $/);
const loginAfter = performance.now() - startedAt;
type('root');
await waitFor(/Password: $/);
type(password);
await waitFor(/root@debian:~# $/);
const seen = {
  cpus: await ask('nproc'),
  state: await ask('systemctl is-system-running --wait'),
  failed: await ask('systemctl list-units --failed --plain --no-legend'),
  root: await ask('findmnt -no SOURCE,FSTYPE /'),
  packages: await ask("dpkg-query -W -f '${Package}\\n'"),
  network: await ask(
    '/lib/systemd/systemd-networkd-wait-online --timeout 120; ip -4 -o -br addr show scope global',
  ),
  page: await ask(
    'exec 3<>/dev/tcp/192.0.2.1/8080; printf "GET /page HTTP/1.0\\r\\n\\r\\n" >&3; tail -n 1 <&3',
  ),
  // Others than the resolver, which listens on the loopback.
  servers: await ask('ss -Hltn | grep -vE " 127[.]0[.]0[.]5[34](%lo)?:53 "'),
};
guest.kill('SIGTERM');
await drain();
const exitCode = await guest.exited;

materializeOverlay(base, overlay, whole);
const check = Bun.spawnSync(['e2fsck', '-fn', whole]);
const same = Bun.spawnSync(['cmp', base, image]);
const result = { ...seen, exitCode, fileSystem: check.exitCode, base: same.exitCode };
rmSync(folder, { recursive: true });
console.log(JSON.stringify(result));
console.error(`login after ${Math.round(loginAfter / 1000)} s, end after ${seconds()} s`);
if (exitCode !== 0 || check.exitCode !== 0) console.error(`${screen.slice(-3000)}\n${check.stdout}`);

/** Output of a command without the echo of it and the prompt. */
async function ask(command: string): Promise<string> {
  // The echoed command must not look like its own end, and nothing should start a pager.
  type(`${command} | cat; echo "END"OF`);
  return (await waitFor(/\n([^]*?)ENDOF\r\n.*# $/))[1]!.replaceAll('\r', '').trim();
}

function type(line: string): void {
  screen = '';
  void guest.stdin.write(`${line}\n`);
  void guest.stdin.flush();
}

async function waitFor(pattern: RegExp): Promise<RegExpExecArray> {
  for (;;) {
    const match = pattern.exec(screen);
    if (match !== null) return match;
    if (!(await read())) fail(`the guest ended before ${pattern}`);
  }
}

async function drain(): Promise<void> {
  while (await read());
}

async function read(): Promise<boolean> {
  const { value, done } = await reader.read();
  // Without colours and the shell's marks around pasted text.
  if (!done) screen = (screen + Buffer.from(value).toString('latin1')).replace(/\x1b\[[\d;?]*[a-zA-Z]/g, '');
  if (!done && process.env['VOLT_TEST_SHOW'] === '1') process.stderr.write(value);
  return !done;
}

function seconds(): number {
  return Math.round((performance.now() - startedAt) / 1000);
}

function fail(why: string): never {
  console.log(`${why}, after ${seconds()} s:\n${screen.slice(-3000)}`);
  process.exit(1);
}
