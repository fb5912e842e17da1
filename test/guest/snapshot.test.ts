/** Guests that volt ctl saves and volt restore continues, in their sandboxes, as a user does it. */
import { describe, expect, setDefaultTimeout } from 'bun:test';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { decodeCpuid, encodeCpuid } from '../../src/kvm/cpuid-codec.ts';
import { encodeState, type MachineState } from '../../src/vmm/state/machine-state.ts';
import { readStateFile } from '../../src/vmm/state/read-state-file.ts';
import { kvmOpens, runVolt, VOLT } from '../cli/volt-process.ts';
import { testNeeding } from '../support/needs.ts';
import { waitUntil } from './guest-run.ts';
import { SnapshotFolder, type SavedVolt } from './saved-volt.ts';
import { asm, buildPvhElf, program } from './tiny-guest.ts';

/** For hangs only. */
setDefaultTimeout(180_000);
const needsKvm = testNeeding('/dev/kvm', !kvmOpens);
const needsRoot = testNeeding('/dev/kvm and root', !kvmOpens || process.getuid?.() !== 0);

/** 200 for a person who has the time. */
const KILLS = Number(process.env['VOLT_TEST_KILLS'] ?? 12);
/** For hangs only. */
const KILLS_MS = 60_000 + KILLS * 15_000;

interface Saved {
  readonly id: string;
  readonly writtenBytes: number;
  readonly memoryBytes: number;
  readonly pausedMs: number;
  readonly liveRounds: number;
}

async function save(guest: SavedVolt, ...words: readonly string[]): Promise<Saved> {
  const { stdout, stderr, exitCode } = await guest.ctl('snapshot', ...words, '--json');
  if (exitCode !== 0) throw new Error(`It was not saved: ${stderr}`);
  return JSON.parse(stdout) as Saved;
}

function forgeState(directory: string, change: (state: MachineState) => MachineState): void {
  writeFileSync(`${directory}/state`, encodeState(change(readStateFile(directory))));
}

/** Bits that no CPU has. (Intel SDM 2A, "CPUID") */
function withReservedFeatures(table: Uint8Array): Uint8Array {
  const entries = decodeCpuid(table).map((entry) => {
    if (entry.function === 1) return { ...entry, ecx: (entry.ecx | (1 << 16)) >>> 0 };
    if (entry.function === 7 && entry.index === 0) return { ...entry, edx: (entry.edx | 1) >>> 0 };
    return entry;
  });
  return encodeCpuid(entries);
}

const names = (path: string) => readdirSync(path).sort();

describe('a guest', () => {
  needsKvm('goes on in another process where it was saved', async () => {
    await using folder = new SnapshotFolder();
    const first = await folder.boot().beating(2);

    const { id } = await save(first, folder.at('snap'), '--stop');
    const exitCode = await first.exited;
    const second = await folder.restore('snap').beating(2);

    expect(exitCode).toBe(0);
    expect(first.stderr).toBe(
      `volt: the guest was saved to ${folder.at('snap')} (snapshot ${id}) and ended\n`,
    );
    expect(names(folder.at('snap'))).toEqual([`memory-${id}`, 'state']);
    expect(second.beats[0]).toBe(first.beats.at(-1)! + 1);
    expect(second.stdout.split('\n')[0]).toEndWith(': 2 CPUs busy');
    expect(second.stderr).toBe('');
  });

  needsKvm(
    'goes on in its own process after it was saved, and each snapshot after the last replaces it',
    async () => {
      await using folder = new SnapshotFolder();
      const guest = await folder.boot().beating();

      const first = await save(guest, folder.at('snap'));
      await guest.beating();
      const second = await save(guest, folder.at('snap'));
      await guest.beating();

      expect(first.id).not.toBe(second.id);
      expect(names(folder.at('snap'))).toEqual([`memory-${second.id}`, 'state']);
      expect(guest.beats).toEqual(guest.beats.map((_, i) => i + 1));
      expect(guest.stderr).toBe('');
    },
  );

  needsKvm('is saved in parts that have what has changed, and restored from all of them', async () => {
    await using folder = new SnapshotFolder();
    const guest = await folder.boot().beating();
    const all = await save(guest, folder.at('snap'), '--diff');
    const parts: Saved[] = [];
    for (let i = 0; i < 3; i++) {
      await guest.beating();
      parts.push(await save(guest, folder.at('snap'), '--diff'));
    }
    const beats = guest.beats.length;

    const restored = await folder.restore('snap').beating(2);
    const further = await save(restored, folder.at('snap'), '--diff', '--stop');
    const again = await folder.restore('snap').beating();

    expect(all.writtenBytes).toBeGreaterThan(0);
    parts.forEach(({ writtenBytes }) => expect(writtenBytes).toBeLessThan(all.writtenBytes));
    expect(restored.beats[0]).toBeGreaterThan(beats);
    expect(again.beats[0]).toBe(restored.beats.at(-1)! + 1);
    expect(readStateFile(folder.at('snap')).memory.layers.map(({ file }) => file)).toEqual(
      [all, ...parts, further].map(({ id }) => `memory-${id}`),
    );
  });

  needsKvm('is copied while it runs, and paused for the rest', async () => {
    await using folder = new SnapshotFolder();
    const guest = await folder.boot().beating();

    const live = await save(guest, folder.at('snap'), '--live');
    const part = await save(guest, folder.at('snap'), '--live', '--diff');
    await guest.beating();
    const restored = await folder.restore('snap').beating(2);

    expect(live.liveRounds).toBeGreaterThan(0);
    expect(part.liveRounds).toBeGreaterThan(0);
    expect(part.writtenBytes).toBeLessThan(live.writtenBytes);
    expect(restored.stderr).toBe('');
  });

  needsKvm('has clones side by side, which go on from the same moment', async () => {
    await using folder = new SnapshotFolder();
    const guest = await folder.boot('--cpus', '4', '--memory', '64M', '--cmdline', 'loop').beating();
    await save(guest, folder.at('snap'), '--stop');

    const clones = [1, 2, 3].map(() => folder.restore('snap'));
    await Promise.all(clones.map((clone) => clone.beating(2)));

    const next = guest.beats.at(-1)! + 1;
    expect(clones.map(({ beats }) => beats[0])).toEqual([next, next, next]);
    clones.forEach(({ stderr }) => expect(stderr).toBe(''));
  });

  needsKvm('that computes has the right results after it was moved once or twice', async () => {
    await using folder = new SnapshotFolder();
    let moves = 0;
    // A fast host may be done before the first snapshot: the next attempt takes it earlier.
    for (let firstMs = 300; moves === 0 && firstMs >= 0; firstMs -= 50) {
      let guest = folder.boot('--cpus', '4', '--memory', '64M', '--json');
      for (moves = 0; moves < 2; moves++) {
        await Bun.sleep(firstMs + 50 * moves);
        const { exitCode } = await guest.ctl('snapshot', folder.at('snap'), '--stop');
        if (exitCode !== 0) break;
        await guest.exited;
        const before = guest.stdout;
        guest = folder.restore('snap');
        guest.stdout = before;
      }

      expect(await guest.exited).toBe(0);
      expect(JSON.parse(guest.stdout)).toMatchObject({ verdict: 'pass' });
    }
    expect(moves).toBeGreaterThan(0);
  });

  needsKvm(
    'with 64 vCPUs is saved in its sandbox while its APs wait, as they do where it is restored',
    async () => {
      await using folder = new SnapshotFolder();
      writeFileSync(folder.at('kernel'), buildPvhElf(program(asm.print('ready'), asm.halt())));
      const flags = ['--cpus', '64', '--memory', '32M', '--kernel', folder.at('kernel')];
      const guest = folder.boot(...flags);
      await waitUntil('the guest is ready', () => guest.stdout.includes('ready'));

      const paused = await guest.ctl('pause');
      await save(guest, folder.at('snap'));
      const resumed = await guest.ctl('resume');
      await save(guest, folder.at('snap'), '--stop');
      await guest.exited;
      const restored = folder.restore('snap');
      await waitUntil('its control socket', () => existsSync(restored.socket));
      const { stdout } = await restored.ctl('vcpus', '--json');

      const states = (JSON.parse(stdout) as { state: string }[]).map(({ state }) => state);
      expect([paused.exitCode, resumed.exitCode]).toEqual([0, 0]);
      expect(states).toEqual(['halted', ...Array<string>(63).fill('waiting-for-sipi')]);
    },
  );

  needsKvm('that was paused stays paused', async () => {
    await using folder = new SnapshotFolder();
    const guest = await folder.boot().beating();
    await guest.ctl('pause');

    await save(guest, folder.at('snap'));
    const { stdout } = await guest.ctl('status', '--json');
    await guest.ctl('resume');
    await guest.beating();

    expect(JSON.parse(stdout)).toMatchObject({ state: 'paused' });
  });

  needsKvm(
    'has another console, and more than one control socket at work, where it is restored',
    async () => {
      await using folder = new SnapshotFolder();
      const guest = await folder.boot().beating();
      await save(guest, folder.at('snap'), '--stop');

      const restored = folder.restore('snap', '--console', `file=${folder.at('log')}`);
      await waitUntil(
        'a heartbeat',
        () => existsSync(folder.at('log')) && readFileSync(folder.at('log')).length > 0,
      );
      const { stdout } = await restored.ctl('status', '--json');

      expect(readFileSync(folder.at('log'), 'latin1')).toMatch(/^heartbeat \d+: 2 CPUs busy/);
      expect(JSON.parse(stdout)).toMatchObject({ state: 'running', vcpus: 2 });
      expect(restored.stdout).toBe('');
    },
  );
});

/** The snapshot in `path` is one of `ids`, with all of its files and no others. */
function wholeSnapshot(path: string): string {
  const { id, memory } = readStateFile(path);
  for (const { file, bytes } of memory.layers) expect(statSync(`${path}/${file}`).size).toBe(bytes);
  return id;
}

describe('killed at any moment', () => {
  needsKvm(
    'the client of a snapshot leaves the old one or a new one, and a guest that goes on',
    async () => {
      await using folder = new SnapshotFolder();
      const guest = await folder.boot().beating();
      const seen = new Set<string>([(await save(guest, folder.at('snap'))).id]);

      for (let i = 0; i < KILLS; i++) {
        const flags = i % 2 === 0 ? ['--live'] : [];
        const client = Bun.spawn([VOLT, 'ctl', guest.socket, 'snapshot', folder.at('snap'), ...flags], {
          stdout: 'ignore',
          stderr: 'ignore',
        });
        await Bun.sleep(60 + ((i * 37) % 160));
        client.kill('SIGKILL');
        await client.exited;
        seen.add(wholeSnapshot(folder.at('snap')));
      }
      await guest.beating(2);
      const last = await save(guest, folder.at('snap'));
      const restored = await folder.restore('snap').beating();

      expect(guest.beats).toEqual(guest.beats.map((_, i) => i + 1));
      expect(guest.stderr).toBe('');
      expect(names(folder.at('snap'))).toEqual([`memory-${last.id}`, 'state']);
      expect(restored.stderr).toBe('');
    },
    KILLS_MS,
  );

  needsKvm(
    'the guest leaves the old snapshot or a new one, and one line',
    async () => {
      await using folder = new SnapshotFolder();
      let guest = await folder.boot().beating();
      await save(guest, folder.at('snap'));

      for (let i = 0; i < KILLS; i++) {
        const client = runVolt(['ctl', guest.socket, 'snapshot', folder.at('snap'), '--diff']);
        await Bun.sleep(60 + ((i * 37) % 160));
        guest.kill('SIGKILL');
        const { stderr, exitCode } = await client;
        await guest.exited;
        wholeSnapshot(folder.at('snap'));
        expect(stderr).toMatch(exitCode === 0 ? /^$/ : /^volt: Cannot [^\n]+\n$/);
        guest = await folder.restore('snap').beating();
      }
      const last = await save(guest, folder.at('snap'));

      expect(names(folder.at('snap'))).toEqual([`memory-${last.id}`, 'state']);
    },
    KILLS_MS,
  );

  needsKvm('by Ctrl-C, the client says so', async () => {
    await using folder = new SnapshotFolder();
    const guest = await folder.boot('--cpus', '2', '--memory', '64M', '--cmdline', 'loop').beating();
    const { id } = await save(guest, folder.at('snap'));
    // A guest's process that is stopped keeps the snapshot from ending.
    guest.kill('SIGSTOP');
    const client = Bun.spawn([VOLT, 'ctl', guest.socket, 'snapshot', folder.at('snap')], {
      stdout: 'ignore',
      stderr: 'pipe',
    });
    await Bun.sleep(500);

    client.kill('SIGINT');
    const exitCode = await client.exited;
    guest.kill('SIGCONT');
    await guest.beating();

    expect(await new Response(client.stderr).text()).toBe(
      'volt: Cannot save the guest: the snapshot was cancelled; the guest goes on\n',
    );
    expect(exitCode).toBe(130);
    expect(names(folder.at('snap'))).toEqual([`memory-${id}`, 'state']);
  });
});

describe('in one line is refused', () => {
  needsKvm('a part of a snapshot that the guest was not saved to', async () => {
    await using folder = new SnapshotFolder();
    const one = await folder.boot().beating();
    const other = await folder.boot().beating();
    const { id } = await save(one, folder.at('snap'));

    const fresh = await other.ctl('snapshot', folder.at('snap'), '--diff');
    const own = await save(other, folder.at('own'));
    const foreign = await other.ctl('snapshot', folder.at('snap'), '--diff');

    expect(fresh.stderr).toBe(
      'volt: Cannot save what has changed: this guest has no snapshot yet; take a snapshot without --diff first\n',
    );
    expect(foreign.stderr).toBe(
      `volt: Cannot save what has changed: ${folder.at('snap')} has snapshot ${id}, and the last one of this guest is ${own.id}; take a snapshot without --diff first\n`,
    );
    expect(names(folder.at('snap'))).toEqual([`memory-${id}`, 'state']);
  });

  needsRoot('a directory on a disk that is full, with the guest as before', async () => {
    await using folder = new SnapshotFolder();
    const guest = await folder.boot().beating();
    mkdirSync(folder.at('full'));
    Bun.spawnSync(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', folder.at('full')]);
    try {
      const { stderr, exitCode } = await guest.ctl('snapshot', `${folder.at('full')}/snap`);
      await guest.beating(2);

      expect(stderr).toMatch(/^volt: Cannot [^\n]*(No space left|ENOSPC|full)[^\n]*\n$/);
      expect(exitCode).toBe(1);
      expect(names(`${folder.at('full')}/snap`)).toEqual([]);
      expect(guest.stderr).toBe('');
    } finally {
      Bun.spawnSync(['umount', folder.at('full')]);
    }
  });

  needsKvm('a snapshot that is damaged', async () => {
    await using folder = new SnapshotFolder();
    const guest = await folder.boot().beating();
    const { id } = await save(guest, folder.at('snap'), '--stop');
    mkdirSync(folder.at('short'));
    mkdirSync(folder.at('forged'));
    for (const name of names(folder.at('snap'))) {
      copyFileSync(`${folder.at('snap')}/${name}`, `${folder.at('short')}/${name}`);
      copyFileSync(`${folder.at('snap')}/${name}`, `${folder.at('forged')}/${name}`);
    }
    truncateSync(`${folder.at('short')}/memory-${id}`, 4096);
    const state = readFileSync(`${folder.at('forged')}/state`);
    state[state.length - 100] = state[state.length - 100]! ^ 1;
    writeFileSync(`${folder.at('forged')}/state`, state);

    const runs = await Promise.all(
      ['none', 'short', 'forged'].map((name) => runVolt(['restore', folder.at(name)])),
    );

    expect(runs.map(({ stderr }) => stderr.replaceAll(`${folder.path}/`, '').trim())).toEqual([
      'volt: Cannot read the snapshot none: it has no file state; name the directory that volt ctl PID snapshot wrote',
      `volt: Cannot restore from short: its memory file memory-${id} has 4096 bytes (expected 67108864); take the snapshot again`,
      'volt: Cannot read the snapshot forged: its checksum is wrong, so it was cut short or changed; take the snapshot again',
    ]);
    expect(runs.map(({ exitCode }) => exitCode)).toEqual([2, 2, 2]);
  });

  needsKvm('a host whose CPU lacks what the guest has seen, unless --ignore-cpu is given', async () => {
    await using folder = new SnapshotFolder();
    const guest = await folder.boot().beating();
    await save(guest, folder.at('snap'), '--stop');
    forgeState(folder.at('snap'), (state) => ({
      ...state,
      vcpus: state.vcpus.map((vcpu) => ({ ...vcpu, cpuid: withReservedFeatures(vcpu.cpuid) })),
    }));

    const { stderr, exitCode } = await runVolt(['restore', folder.at('snap')]);
    const ignoring = await folder.restore('snap', '--ignore-cpu').beating();

    expect(stderr.trim().split('\n')).toEqual([
      'volt: CPUID 0x1 ECX: this host lacks bit 16',
      'volt: CPUID 0x7.0 EDX: this host lacks bit 0',
      "volt: Cannot restore the guest: this host's CPU lacks what the guest has seen; use a host like its own, or --ignore-cpu if the guest does not use it",
    ]);
    expect(exitCode).toBe(1);
    expect(ignoring.stderr).toBe('');
  });

  needsKvm('a change of what the guest sees', async () => {
    await using folder = new SnapshotFolder();
    const guest = await folder.boot().beating();
    await save(guest, folder.at('snap'), '--stop');

    const { stderr, exitCode } = await runVolt(['restore', folder.at('snap'), '--disk', folder.at('disk')]);

    expect(stderr).toMatch(/^volt: Cannot restore with another --disk: the guest has no disk0 [^\n]+\n$/);
    expect(exitCode).toBe(2);
  });
});
