/** `volt restore` and `volt ctl snapshot` by the command line, in what is of the host: memory, clocks, jail, terminal. */
import { afterAll, describe, expect, setDefaultTimeout } from 'bun:test';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { viewOf } from '../../src/binary/bytes.ts';
import { CLOCK_DATA } from '../../src/kvm/state-abi.ts';
import { savedClock } from '../../src/kvm/vm-state.ts';
import { encodeState, type MachineState } from '../../src/vmm/state/machine-state.ts';
import { readStateFile } from '../../src/vmm/state/read-state-file.ts';
import { kvmOpens, runVolt, VOLT } from '../cli/volt-process.ts';
import { testNeeding } from '../support/needs.ts';
import { LACKS_USERFAULT, startMemoryHandler } from '../unit/memory/memory-handler.ts';
import { LACKS_HUGE_PAGES } from '../unit/support/huge-pages.ts';
import { waitUntil } from './guest-run.ts';
import { SnapshotFolder } from './saved-volt.ts';
import { asm, buildPvhElf, program } from './tiny-guest.ts';

/** For hangs only. */
setDefaultTimeout(120_000);
const isRoot = process.getuid?.() === 0;
const needsKvm = testNeeding('/dev/kvm', !kvmOpens);
const needsUserfault = testNeeding(
  '/dev/kvm and the right to use userfaultfd',
  !kvmOpens || LACKS_USERFAULT !== '',
);
const needsRoot = testNeeding('/dev/kvm and root', !kvmOpens || !isRoot);
const needsHugePages = testNeeding(
  '/dev/kvm and 64 MiB of free hugetlb pages',
  !kvmOpens || LACKS_HUGE_PAGES !== '',
);

/** A guest of the embedded kernel that was saved and has ended: saved once for all tests. */
let shared: Promise<SnapshotFolder> | undefined;
const saved = () => (shared ??= saveLoop());
afterAll(async () => (await shared)?.[Symbol.asyncDispose]());

async function saveLoop(): Promise<SnapshotFolder> {
  const folder = new SnapshotFolder();
  const guest = await folder.boot().beating();
  const { stderr, exitCode } = await guest.ctl('snapshot', folder.at('snap'), '--stop');
  expect({ stderr, exitCode }).toEqual({ stderr: '', exitCode: 0 });
  await guest.exited;
  return folder;
}

/** Another snapshot of the same guest in `directory`, with the same memory file and a changed state. */
async function forge(directory: string, change: (state: MachineState) => MachineState): Promise<void> {
  const from = (await saved()).at('snap');
  const state = readStateFile(from);
  mkdirSync(directory);
  for (const { file } of state.memory.layers) linkSync(join(from, file), join(directory, file));
  writeFileSync(join(directory, 'state'), encodeState(change(state)));
}

describe('volt restore', () => {
  needsUserfault('--uffd takes all memory from a handler, and needs no memory file', async () => {
    await using folder = new SnapshotFolder();
    const from = (await saved()).at('snap');
    const [memory] = readStateFile(from).memory.layers;
    mkdirSync(folder.at('no-memory'));
    copyFileSync(join(from, 'state'), folder.at('no-memory/state'));
    using _ = await startMemoryHandler(folder.at('handler.sock'), join(from, memory!.file));

    const restored = await folder.restore('no-memory', '--uffd', folder.at('handler.sock')).beating(2);
    const { stderr } = await restored.ctl('snapshot', folder.at('again'), '--stop');
    const again = await folder.restore('again').beating();

    expect([stderr, again.stderr]).toEqual(['', '']);
    expect(again.beats[0]).toBe(restored.beats.at(-1)! + 1);
  });

  needsKvm('--uffd of a socket without a handler is one line', async () => {
    const snapshot = (await saved()).at('snap');

    const { stderr, exitCode } = await runVolt(['restore', snapshot, '--uffd', `${snapshot}/none.sock`]);

    expect(stderr).toMatch(/^volt: Cannot [^\n]*none\.sock[^\n]*\n$/);
    expect(exitCode).toBe(1);
  });

  needsHugePages('of a guest in hugetlb pages, which is saved in part as well', async () => {
    await using folder = new SnapshotFolder();
    const guest = await folder
      .boot('--cpus', '2', '--memory', '64M', '--cmdline', 'loop', '--hugepages')
      .beating();
    await guest.ctl('snapshot', folder.at('snap'));
    await guest.beating();
    await guest.ctl('snapshot', folder.at('snap'), '--diff', '--stop');
    await guest.exited;

    const restored = await folder.restore('snap').beating(2);

    expect(readStateFile(folder.at('snap')).memory.layers).toHaveLength(2);
    expect(restored.beats[0]).toBe(guest.beats.at(-1)! + 1);
    expect([guest.stderr.split('\n').length, restored.stderr]).toEqual([2, '']);
  });

  needsRoot('--jail runs it as another user, whose folder has the snapshot', async () => {
    await using jail = new Jail();
    jail.copySnapshot((await saved()).at('snap'));

    const restored = jail.restore();
    await waitUntil('a heartbeat', () => restored.stdout.includes('heartbeat') || restored.hasEnded());

    expect(restored.stdout).toContain('heartbeat');
    expect(restored.stderr).toBe('');
  });

  const HOUR_NS = 3_600_000_000_000;
  needsKvm.each([
    ['--clock realtime', ['--clock', 'realtime'], HOUR_NS],
    ['--clock offset', ['--clock', 'offset'], 0],
    ['no --clock, which is realtime,', [], HOUR_NS],
  ])('with %s goes on at the time that it says', async (_name, flags, passed) => {
    await using folder = new SnapshotFolder();
    const before = readStateFile((await saved()).at('snap')).vm.clock.slice();
    // Without a host time of KVM's, that of the file counts.
    viewOf(before).setUint32(CLOCK_DATA.flags, 0, true);
    const createdAt = Date.now() - HOUR_NS / 1e6;
    await forge(folder.at('snap'), (state) => ({
      ...state,
      createdAt,
      vm: { ...state.vm, clock: before },
    }));

    const restored = await folder.restore('snap', ...flags).beating();
    await restored.ctl('snapshot', folder.at('after'), '--stop');
    const after = readStateFile(folder.at('after'));

    const gone = Number(savedClock(after.vm.clock) - savedClock(before)) - passed;
    expect(gone).toBeGreaterThan(0);
    expect(gone).toBeLessThan(HOUR_NS / 2);
  });

  needsKvm('whose guest resets itself when its kernel has gone ends with one line', async () => {
    await using folder = new SnapshotFolder();
    const onByte = asm.untilZero([...asm.in8(0x3fd), 0x24, 0x01, 0x34, 0x01]);
    const code = program(asm.print('ready'), onByte, asm.in8(0x3f8), asm.out8(0x64, 0xfe), asm.halt());
    writeFileSync(folder.at('kernel'), buildPvhElf(code));
    const guest = folder.boot('--cpus', '1', '--memory', '32M', '--kernel', folder.at('kernel'));
    await waitUntil('the guest is ready', () => guest.stdout.includes('ready'));
    await guest.ctl('snapshot', folder.at('snap'), '--stop');
    unlinkSync(folder.at('kernel'));

    const { stderr, exitCode } = await runVolt(['restore', folder.at('snap')], { stdin: Buffer.from('x') });

    expect(stderr).toMatch(/^volt: Cannot [^\n]*kernel[^\n]*\n$/);
    expect(exitCode).toBe(2);
  });
});

describe('volt ctl snapshot on a terminal', () => {
  needsKvm('shows a bar, takes it away, and says what it has saved', async () => {
    await using folder = new SnapshotFolder();
    const guest = await folder.boot().beating();
    let shown = '';
    await using client = Bun.spawn([VOLT, 'ctl', guest.socket, 'snapshot', folder.at('snap')], {
      terminal: { data: (_, bytes) => void (shown += Buffer.from(bytes).toString('latin1')) },
      env: { ...process.env, NO_COLOR: '1' },
    });

    const exitCode = await client.exited;
    await waitUntil('the last line', () => shown.includes('the guest was paused for'));

    const [bars, rest] = [shown.slice(0, shown.lastIndexOf('\r\x1b[K')), shown.split('\r\x1b[K').at(-1)!];
    expect(exitCode).toBe(0);
    expect(bars).toMatch(/\r\[#{30}\] 100 % {2}\d+ of 64 MiB, writing, the guest is paused\x1b\[K/);
    expect(rest).toMatch(/^saved to \S+: snapshot [0-9a-f]{32}\r\n\d+ of 64 MiB written in [^\n]+\r\n$/);
  });

  needsKvm('shows none where stderr is a file', async () => {
    await using folder = new SnapshotFolder();
    const guest = await folder.boot().beating();

    const { stderr, stdout } = await guest.ctl('snapshot', folder.at('snap'), '--live');

    expect(stderr).toBe('');
    expect(stdout).toMatch(/^saved to [^\n]+\n[^\n]+\n$/);
  });
});

/** A folder to be jailed in, and a guest that is. */
class Jail implements AsyncDisposable {
  readonly #root = mkdtempSync(join(tmpdir(), 'volt-jail-'));
  /** Of this run of the tests alone. */
  readonly #uid = 1_200_000 + process.pid;
  #child: Bun.Subprocess<'ignore', 'pipe', 'pipe'> | undefined;
  stdout = '';
  stderr = '';

  constructor() {
    chmodSync(this.#root, 0o755);
  }

  copySnapshot(from: string): void {
    const to = join(this.#root, 'snap');
    mkdirSync(to, { mode: 0o700 });
    for (const name of readdirSync(from)) {
      copyFileSync(join(from, name), join(to, name));
      chownSync(join(to, name), this.#uid, this.#uid);
    }
    chownSync(to, this.#uid, this.#uid);
  }

  restore(): this {
    const user = ['--uid', String(this.#uid), '--gid', String(this.#uid)];
    this.#child = Bun.spawn([VOLT, 'restore', '/snap', '--jail', this.#root, ...user], {
      stdin: 'ignore',
      stdout: 'pipe',
      stderr: 'pipe',
    });
    void read(this.#child.stdout, (text) => (this.stdout += text));
    void read(this.#child.stderr, (text) => (this.stderr += text));
    return this;
  }

  hasEnded(): boolean {
    return this.#child?.exitCode !== null;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child?.kill('SIGKILL');
    await this.#child?.exited;
    rmSync(this.#root, { recursive: true, force: true });
  }
}

async function read(stream: ReadableStream<Uint8Array>, take: (text: string) => void): Promise<void> {
  for await (const bytes of stream) take(Buffer.from(bytes).toString('latin1'));
}
