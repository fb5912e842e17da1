/**
 * Beside a guest with two shared folders: makes what the guest reads, looks at what it wrote, and takes the daemon of
 * the first away when the guest asks for that, with a request of it under way. Prints what came of it as JSON.
 * Usage: share-rounds.ts FOLDER VOLT ARGUMENT…
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { poll, startGuest } from './guest-session.ts';

const [folder, ...argv] = process.argv.slice(2) as [string, ...string[]];
const [files, readable] = [join(folder, 'files'), join(folder, 'readable')];
const BIG_BYTES = 24 * 2 ** 20;

for (const path of [files, readable]) mkdirSync(path);
const big = new Uint8Array(BIG_BYTES);
for (let at = 0; at < BIG_BYTES; at += 65_536) crypto.getRandomValues(big.subarray(at, at + 65_536));
writeFileSync(join(files, 'big'), big);
writeFileSync(join(files, 'lives'), '');
writeFileSync(join(readable, 'hello'), 'hello\n');

const guest = startGuest([
  ...argv,
  ...['--share', `path=${files},tag=files`, '--share', `path=${readable},tag=readable,readonly`],
]);
await guest.until('VOLT-GUEST waits for the end of virtiofsd', 200);
const daemons = daemonsOf(files);
// What the guest asks for from now on is not answered any more.
daemons.forEach((pid) => process.kill(pid, 'SIGSTOP'));
renameSync(join(files, 'wait'), join(files, 'go'));
await Bun.sleep(2000);
daemonsOf(files).forEach((pid) => process.kill(pid, 'SIGKILL'));
const exitCode = await guest.ended;
await poll(
  () => daemonsOf(files).length + daemonsOf(readable).length,
  (count) => count === 0,
);

const lines = guest.text().match(/VOLT-GUEST (?!cpus|mem|cmdline|check|done)[^\r\n]*/g);
const told = (what: string) =>
  lines
    ?.find((line) => line.includes(what))
    ?.split(' ')
    .at(-1);
process.stdout.write(
  `\n${JSON.stringify({
    lines: lines?.filter((line) => !line.includes('sum of')),
    bigArrived: told('sum of big') === sumOf('big'),
    backArrived: told('sum of back') === sumOf('back'),
    backBytes: statSync(join(files, 'back')).size,
    files: readdirSync(files).sort(),
    readable: readdirSync(readable),
    text: readFileSync(join(files, 'folder/renamed'), 'utf8'),
    exitCode,
  })}\n`,
);

function sumOf(name: string): string {
  return new Bun.CryptoHasher('md5').update(readFileSync(join(files, name))).digest('hex');
}

function daemonsOf(path: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && commandOf(name).includes(`source=${path},`))
    .map(Number);
}

/** Empty for a process that ended meanwhile. */
function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1');
  } catch {
    return '';
  }
}
