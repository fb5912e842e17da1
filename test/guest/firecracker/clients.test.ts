/** Programs that drive Firecracker, in other languages, with their own client libraries. */
import { expect, setDefaultTimeout } from 'bun:test';
import { copyFileSync, symlinkSync } from 'node:fs';
import { resolve } from 'node:path';
import { TemporaryFolder, VOLT } from '../../cli/volt-process.ts';
import { testNeeding } from '../../support/needs.ts';
import { kvmOpens } from './microvm.ts';

/** The first build of the Go client takes a minute. */
setDefaultTimeout(300_000);

const CLIENTS = resolve(import.meta.dir, 'clients');
const KERNEL = resolve(import.meta.dir, '../../../kernels/smp/smp.elf');
/** Modules come from Go's cache alone: nothing is downloaded in a test. */
const GO = { GOFLAGS: '-mod=mod', GOPROXY: 'off', GONOSUMDB: '*', GOSUMDB: 'off', GOTOOLCHAIN: 'local' };

const succeeds = (command: readonly string[]) =>
  Bun.which(command[0]!) !== null && Bun.spawnSync([...command], { stdout: 'ignore' }).exitCode === 0;
const needsPython = testNeeding('/dev/kvm and python3', !kvmOpens || !succeeds(['python3', '--version']));
const needsGo = testNeeding(
  '/dev/kvm and Go with firecracker-go-sdk and its modules in its cache',
  !kvmOpens || !hasSdk(),
);

function hasSdk(): boolean {
  if (Bun.which('go') === null) return false;
  using folder = goFolder();
  return run(['go', 'list', '-deps', '.'], folder.at('.')).exitCode === 0;
}

/** The client's source, without a go.sum: Go writes one. */
function goFolder(): TemporaryFolder {
  const folder = new TemporaryFolder();
  for (const name of ['go.mod', 'main.go']) copyFileSync(resolve(CLIENTS, 'go', name), folder.at(name));
  return folder;
}

function run(command: readonly string[], cwd: string) {
  const env = { ...process.env, ...GO };
  return Bun.spawnSync([...command], { cwd, env, stdout: 'pipe', stderr: 'pipe' });
}

/** Runs a client with Volt as Firecracker; what it says. */
async function drive(client: readonly string[]): Promise<readonly string[]> {
  using folder = new TemporaryFolder();
  symlinkSync(VOLT, folder.at('firecracker'));
  for (const name of ['disk.img', 'other.img']) await folder.write(name, new Uint8Array(1 << 20));
  const child = Bun.spawn([...client, folder.at('firecracker'), KERNEL, folder.path], {
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
  });
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  expect([await child.exited, stderr.replace(/^.*\[anonymous-instance.*\n/gm, '')]).toEqual([0, '']);
  return stdout.split('\n').filter((line) => /^\w+: /.test(line));
}

needsPython('a Python client starts, saves and clones a microVM', async () => {
  expect(await drive(['python3', resolve(CLIENTS, 'client.py')])).toEqual([
    'first: Running',
    'paused: Paused',
    'metadata: v w',
    'restored: Running',
    'restored: Running',
  ]);
});

needsGo('firecracker-go-sdk starts and saves a microVM, and goes on from the snapshot', async () => {
  using folder = goFolder();
  const built = run(['go', 'build', '-o', folder.at('client'), '.'], folder.at('.'));
  expect([built.exitCode, built.stderr.toString()]).toEqual([0, '']);

  expect(await drive([folder.at('client')])).toEqual([
    'first: Running',
    'paused: Paused',
    'metadata: v w',
    'restored: Running',
  ]);
});
