/** A memory file that is truncated under a restored guest ends the process, with a line. */
import { expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import { guestAddress, MIB } from '../../../src/machine/address.ts';
import { ramRanges } from '../../../src/machine/layout.ts';
import { GuestMemory } from '../../../src/memory/guest-memory.ts';
import { TemporaryFolder } from '../../cli/volt-process.ts';
import { saveTo } from './saved-memory.ts';

setDefaultTimeout(60_000);

/** Restores the file at its first argument, truncates it, and accesses RAM as its second says. */
const CHILD = `
  import { copyFileSync, truncateSync } from 'node:fs';
  import { guestAddress } from '${join(import.meta.dir, '../../../src/machine/address.ts')}';
  import { ramRanges } from '${join(import.meta.dir, '../../../src/machine/layout.ts')}';
  import { restoreFrom } from '${join(import.meta.dir, 'saved-memory.ts')}';
  const [path, way] = process.argv.slice(-2);
  const memory = restoreFrom(ramRanges(32 * 2 ** 20), [{ path }]);
  if (way === 'elsewhere') {
    copyFileSync(path, path + '2');
    const other = Bun.mmap(path + '2');
    truncateSync(path + '2', 4096);
    console.log(other[2 ** 20]);
  }
  if (way !== 'whole') truncateSync(path, 4096);
  if (way === 'worker') {
    const { host } = memory.regions[0];
    const code = \`import { read } from 'bun:ffi'; read.u8(\${host} + 2 ** 20, 0); postMessage(0)\`;
    const worker = new Worker(URL.createObjectURL(new Blob([code], { type: 'text/javascript' })));
    await new Promise((resolve) => (worker.onmessage = resolve));
  } else {
    console.log(memory.read(guestAddress(2 ** 20), 1)[0]);
  }
  process.exit(0);
`;

test.each([
  ['the main thread', 'main'],
  ['another thread', 'worker'],
])('%s finds the page gone', async (_, way) => {
  using folder = new TemporaryFolder();
  const result = await runChild(folder, way);

  expect(result).toEqual({
    exitCode: 1,
    output: '',
    errors:
      'volt: Cannot continue the guest: a memory file of its snapshot was truncated or cannot be read; restore it from a whole snapshot\n',
  });
});

test('of a file that stays as it is nothing is lost', async () => {
  using folder = new TemporaryFolder();
  expect(await runChild(folder, 'whole')).toEqual({ exitCode: 0, output: '5\n', errors: '' });
});

test('another file is not taken for one', async () => {
  using folder = new TemporaryFolder();
  const { exitCode, output, errors } = await runChild(folder, 'elsewhere');

  expect([exitCode === 0, output, errors.includes('Cannot continue the guest')]).toEqual([false, '', false]);
});

async function runChild(folder: TemporaryFolder, way: string) {
  {
    using memory = new GuestMemory(ramRanges(32 * MIB));
    memory.write(guestAddress(MIB), Uint8Array.of(5));
    await saveTo(folder.at('memory'), memory);
  }
  const script = await folder.write('child.ts', CHILD);
  const child = Bun.spawn([process.execPath, script, folder.at('memory'), way], {
    stdout: 'pipe',
    stderr: 'pipe',
    env: { ...process.env, BUN_BE_BUN: '1' },
  });
  const [output, errors] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  return { exitCode: await child.exited, output, errors };
}
