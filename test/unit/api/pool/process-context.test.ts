/** What a process inherits decides whether one of a pool may stand in for it. */
import { expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { defaultSocketPath } from '../../../../src/api/control/directory.ts';
import { findPoolSocket, poolSocketIn } from '../../../../src/api/pool/place.ts';
import { firstDifference, readInherited } from '../../../../src/api/pool/process-context.ts';
import { TemporaryFolder } from '../../../cli/volt-process.ts';
import { waitUntil } from '../../../guest/guest-run.ts';
import { testNeeding } from '../../../support/needs.ts';

setDefaultTimeout(60_000);

/** A child of this process, started by a shell after `command`, that has the same executable as this process. */
async function startAfter(command: string) {
  const program = `process.stdout.write('up'); setTimeout(() => {}, 60000)`;
  const child = Bun.spawn(['sh', '-c', `${command}; exec "$0" -e "$1"`, process.execPath, program], {
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'inherit',
  });
  await child.stdout.getReader().read();
  return child;
}

async function inheritedAfter(command: string) {
  await using child = await startAfter(command);
  return readInherited(child.pid);
}

test('a child with nothing changed has the same context', async () => {
  await using one = await startAfter('true');
  await using other = await startAfter('true');
  const difference = () => firstDifference(readInherited(one.pid).context, readInherited(other.pid).context);

  // The runtime blocks signals for moments while it starts, and a host may still be adjusting new processes.
  await waitUntil('both are the same', () => difference() === undefined);

  expect(difference()).toBeUndefined();
});

test.each([
  ['ulimit -c 1', 'resource limits (ulimit)'],
  ['ulimit -t 1000', 'resource limits (ulimit)'],
  ['renice -n 5 -p $$ >/dev/null', 'nice value'],
  ['echo 500 >/proc/$$/oom_score_adj', 'oom_score_adj'],
])('after %s another context is seen: its %s', async (command, property) => {
  const plain = await inheritedAfter('true');
  const changed = await inheritedAfter(command);

  expect(changed.context[property]).not.toBe(plain.context[property]!);
  expect(firstDifference(plain.context, changed.context)).toBeDefined();
});

testNeeding('two CPUs', availableParallelism() < 2)('after taskset another affinity is seen', async () => {
  const plain = await inheritedAfter('true');
  const changed = await inheritedAfter('taskset -cp 0 $$ >/dev/null');

  expect(changed.context['CPU affinity']).not.toBe(plain.context['CPU affinity']!);
});

test('umask and ignored signals are read', async () => {
  const { umask, ignoredSignals } = await inheritedAfter("umask 027; trap '' HUP");

  expect(umask).toBe(0o027);
  expect(ignoredSignals & 1n).toBe(1n);
});

test('a pool is looked for where volt ps looks', async () => {
  using folder = new TemporaryFolder();
  const runtimeDirectory = folder.at('run');
  mkdirSync(runtimeDirectory, { mode: 0o700 });
  const places = { uid: process.getuid!(), runtimeDirectory, run: folder.at('none'), tmp: folder.path };
  const directory = defaultSocketPath(1, places).replace(/\/1\.sock$/, '');

  const before = findPoolSocket(places);
  await Bun.write(poolSocketIn(directory), '');

  expect(before).toBeUndefined();
  expect(findPoolSocket(places)).toBe(poolSocketIn(directory));
});
