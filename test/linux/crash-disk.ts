/**
 * Kills Volt under load and looks what is on its disks. Usage: bun crash-disk.ts VOLT KERNEL INITRD plain|overlay
 *
 * Prints "killed after N", then for each disk what it found. Nothing that the guest flushed may be missing.
 */
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readThroughOverlay } from './overlay-image.ts';

const [volt, kernel, initrd, mode] = process.argv.slice(2) as [string, string, string, string];
const FLUSHES = 60;
const BLOCKS = 64;
const folder = mkdtempSync('/tmp/volt-crash-');
const [files, blocks] = ['files', 'blocks'].map((name) => join(folder, name)) as [string, string];
for (const path of [files, blocks]) {
  writeFileSync(path, '');
  truncateSync(path, 16 * 1024 * 1024);
}
run(['mkfs.ext4', '-q', '-F', files]);
const disks = [files, blocks].flatMap((path) => [
  '--disk',
  mode === 'overlay' ? `path=${path},overlay=${path}.ov` : `path=${path}`,
]);
const cmdline = 'console=ttyS0 reboot=k panic=-1 quiet volt.run=load';
const child = Bun.spawn(
  [
    volt,
    '--no-reboot',
    '--cpus',
    '2',
    '--kernel',
    kernel,
    '--initrd',
    initrd,
    '--cmdline',
    cmdline,
    ...disks,
  ],
  {
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'inherit',
  },
);
let output = '';
for await (const bytes of child.stdout) {
  output += Buffer.from(bytes).toString('latin1');
  if (child.killed || !output.includes(`VOLT-GUEST flushed ${FLUSHES}\r`)) continue;
  child.kill('SIGKILL');
}
await child.exited;
const told = [...output.matchAll(/VOLT-GUEST flushed (\d+)\r/g)].map((match) => Number(match[1]));
const last = told.at(-1) ?? 0;
console.log(last === 0 ? output.slice(-2000) : `killed after ${last}`);

const image = mode === 'overlay' ? readThroughOverlay(blocks, `${blocks}.ov`) : readFileSync(blocks);
let [missing, torn] = [0, 0];
for (let block = 0; block < BLOCKS; block++) {
  const newest = last - ((last - block + BLOCKS) % BLOCKS);
  const text = image.subarray(block * 4096, (block + 1) * 4096).toString('latin1');
  if (newest > 0 && Number(text) < newest) missing++;
  if (newest > 0 && !/^\d+ +$/.test(text)) torn++;
}
console.log(`blocks missing=${missing} torn=${torn}`);

if (mode === 'overlay') writeFileSync(files, readThroughOverlay(files, `${files}.ov`));
// As at the next mount: the journal is replayed, and then nothing may be wrong.
run(['e2fsck', '-fp', files], [0, 1]);
run(['e2fsck', '-fn', files]);
console.log('file system clean');
rmSync(folder, { recursive: true });

function run(argv: string[], good: readonly number[] = [0]): void {
  const { exitCode, stdout, stderr } = Bun.spawnSync(argv);
  if (good.includes(exitCode)) return;
  console.log(`${argv.join(' ')} ended with ${exitCode}: ${stdout}${stderr}`);
  process.exit(1);
}
