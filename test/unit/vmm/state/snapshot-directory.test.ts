/** The directory of a snapshot: what is in it after each step, and what is refused. */
import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeState } from '../../../../src/vmm/state/machine-state.ts';
import { SnapshotDirectory, newSnapshotId } from '../../../../src/vmm/state/snapshot-directory.ts';
import { readStateFile } from '../../../../src/vmm/state/read-state-file.ts';
import { voltErrorOf } from '../../support/errors.ts';
import { sampleState } from './sample-state.ts';

const PAGE = 4096;
let parent: string;
let path: string;

beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'volt-snapshot-'));
  path = join(parent, 'snap');
});

afterEach(() => rmSync(parent, { recursive: true, force: true }));

/** Layers of all snapshots so far, the last of which is `id`. */
function stateOf(id: string, ...files: readonly string[]): Uint8Array {
  const layers = files.map((file, i) => ({
    file,
    bytes: PAGE,
    ...(i === 0 ? {} : { runs: [[0, PAGE] as const] }),
  }));
  return encodeState({ ...sampleState(), id, memory: { regions: [{ address: 0, bytes: PAGE }], layers } });
}

/** Takes a snapshot of one page; `extends` the one that is there. */
async function take(extendsLast = false): Promise<string> {
  using directory = new SnapshotDirectory(path);
  const id = newSnapshotId();
  const earlier = extendsLast ? directory.current!.memory.layers.map(({ file }) => file) : [];
  const { memory, state } = directory.begin(id);
  writeSync(memory.fd, new Uint8Array(PAGE).fill(1));
  writeSync(state.fd, stateOf(id, ...earlier, `memory-${id}`));
  await directory.commit();
  return id;
}

const names = () => readdirSync(path).sort();
const mode = (name: string) => statSync(join(path, name)).mode & 0o7777;

describe('a snapshot', () => {
  test('is a directory and two files for its owner alone, whatever the umask', async () => {
    const mask = process.umask(0);
    const id = await take();
    process.umask(mask);

    expect(names()).toEqual([`memory-${id}`, 'state']);
    expect(statSync(path).mode & 0o7777).toBe(0o700);
    expect([mode('state'), mode(`memory-${id}`)]).toEqual([0o600, 0o600]);
    expect(readStateFile(path).id).toBe(id);
  });

  test('replaces the one before, and removes its files and those of attempts that failed, but no others', async () => {
    const old = await take();
    writeFileSync(join(path, `memory-${'0'.repeat(32)}`), 'left by a killed process');
    writeFileSync(join(path, `state.tmp-${'0'.repeat(32)}`), 'left by a killed process');
    writeFileSync(join(path, 'memory-notes.txt'), 'mine');
    writeFileSync(join(path, 'state.old'), 'mine');

    const id = await take();

    expect(old).not.toBe(id);
    expect(names()).toEqual(['memory-notes.txt', `memory-${id}`, 'state', 'state.old'].sort());
  });

  test('keeps the files of the layers that it builds on', async () => {
    const first = await take();
    const second = await take(true);

    expect(names()).toEqual([`memory-${first}`, `memory-${second}`, 'state'].sort());
  });

  test('that is not committed leaves the one before, and nothing of itself', async () => {
    const id = await take();
    const before = readFileSync(join(path, 'state'));

    using directory = new SnapshotDirectory(path);
    const { memory } = directory.begin(newSnapshotId());
    writeSync(memory.fd, new Uint8Array(PAGE));
    directory[Symbol.dispose]();

    expect(names()).toEqual([`memory-${id}`, 'state']);
    expect(readFileSync(join(path, 'state'))).toEqual(before);
  });

  test('is there once it is renamed, although its client is killed before it has removed the old files', async () => {
    const old = await take();
    const id = newSnapshotId();
    writeFileSync(join(path, `memory-${id}`), new Uint8Array(PAGE));
    writeFileSync(join(path, 'state'), stateOf(id, `memory-${id}`));

    const found = readStateFile(path).id;
    const next = await take();

    expect(found).toBe(id);
    expect(names()).toEqual([`memory-${next}`, 'state']);
    expect(old).not.toBe(id);
  });
});

describe('refused is', () => {
  const messageOf = (act: () => unknown) => voltErrorOf(act).message.replaceAll(parent, '');

  test('a second snapshot into the same directory at the same time', () => {
    using _first = new SnapshotDirectory(path);

    const message = messageOf(() => new SnapshotDirectory(path));

    expect(message).toBe(
      'Cannot write a snapshot to /snap: another snapshot is written there; wait for its end',
    );
  });

  test('a directory whose state is another file', () => {
    mkdirSync(path);
    writeFileSync(join(path, 'state'), 'of my own program\n');

    const message = messageOf(() => new SnapshotDirectory(path));

    expect(message).toStartWith('Cannot read the snapshot /snap: it is no state file of Volt');
    expect(readFileSync(join(path, 'state'), 'utf8')).toBe('of my own program\n');
  });

  test.each([
    ['in no directory', () => {}, 'none/snap', 'there is no directory above it; create it'],
    ['at a file', () => writeFileSync(path, ''), 'snap', 'it is not a directory; name another one'],
    ['in a file', () => writeFileSync(path, ''), 'snap/snap', 'it is not a directory; name another one'],
  ])('a directory %s', (_where, prepare, name, found) => {
    prepare();

    const message = messageOf(() => new SnapshotDirectory(join(parent, name)));

    expect(message).toBe(`Cannot write a snapshot to /${name}: ${found}`);
  });

  test('a file that somebody has put in the place of a new one', () => {
    using directory = new SnapshotDirectory(path);
    const id = newSnapshotId();
    symlinkSync('/etc/passwd', join(path, `memory-${id}`));

    const message = messageOf(() => directory.begin(id));

    expect(message).toStartWith('Cannot write a snapshot to /snap: EEXIST');
  });
});
