/**
 * A busy Debian with four vCPUs, one of them plugged, that is saved, goes on in another process, is saved while it
 * runs, and has three clones side by side. snapshot-rounds.ts is what happens on the host.
 */
import { afterAll, expect } from 'bun:test';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fetchDebianKernel, type DebianKernel } from '../../scripts/debian-kernel.ts';
import { beforeAll, LINUX_TEST, runOnLinuxHost, stopLinuxHost, thorough, VOLT } from './linux-host.ts';
import { buildSnapshotInitrd } from './snapshot-guest.ts';

/** Bounds for a hang only: an emulated host takes a quarter of an hour. */
const SECONDS = 2400;
const TEST = { ...LINUX_TEST, timeout: (SECONDS + 100) * 1000 };
const cache = resolve(import.meta.dir, '../../.cache/test');
const initrd = join(cache, 'snapshot-initrd');
const CLONES = ['c1', 'c2', 'c3'];
let kernel: DebianKernel;

interface Description {
  readonly clockOff: number;
  readonly random: string;
  readonly cpus: number;
  readonly echoes: boolean;
  readonly complaints: readonly string[];
}

interface Snapshot {
  readonly memoryBytes: number;
  readonly writtenBytes: number;
  readonly liveRounds: number;
}

beforeAll(async () => {
  mkdirSync(cache, { recursive: true });
  kernel = await fetchDebianKernel('amd64');
  await Bun.write(initrd, await buildSnapshotInitrd(kernel));
}, LINUX_TEST.timeout);

afterAll(stopLinuxHost);

thorough(
  'a busy Debian is saved, goes on with its disks, network, vsock and clock in another process, and has three clones',
  async () => {
    const rounds = join(import.meta.dir, 'snapshot-rounds.ts');
    const argv = [process.execPath, rounds, VOLT, kernel.vmlinux, initrd];

    const { stdout, stderr, exitCode } = await runOnLinuxHost(argv, SECONDS);

    const lines = stdout.split('\n').map((line) => /^([\w-]+) (.*)$/.exec(line));
    const said = new Map(lines.flatMap((match) => (match ? [[match[1]!, match[2]!]] : [])));
    const answer = <T>(name: string) => JSON.parse(said.get(name) ?? 'null') as T;
    const guests = ['first', 'second', ...CLONES].map((name) => answer<Description>(name));
    for (const { clockOff, cpus, echoes, complaints } of guests) {
      expect(clockOff).toBeLessThan(5);
      expect({ cpus, echoes, complaints }).toEqual({ cpus: 4, echoes: true, complaints: [] });
    }
    expect(new Set(guests.map(({ random }) => random)).size).toBe(guests.length);
    expect(answer<string[]>('second-complaints')).toEqual([]);
    expect(answer<{ hasEnded: boolean }>('first-stream')).toMatchObject({ hasEnded: true });
    expect(answer<boolean>('second-stream-lasts')).toBe(true);
    for (const name of ['second', ...CLONES]) expect(answer<boolean>(`${name}-streams`)).toBe(true);
    expect(CLONES.map((name) => answer<boolean>(`${name}-mac`))).toEqual([true, true, true]);
    const [full, live, part] = ['saved', 'live', 'clone-base'].map((name) => answer<Snapshot>(name));
    expect(live!.liveRounds).toBeGreaterThan(0);
    expect(live!.writtenBytes).toBeLessThan(full!.writtenBytes);
    expect(part!.writtenBytes).toBeLessThan(full!.writtenBytes);
    expect(['first', 'second', ...CLONES].map((name) => answer<number>(`${name}-exit`))).toEqual([
      0, 0, 0, 0, 0,
    ]);
    expect(CLONES.map((name) => answer<string>(`${name}-fsck`))).toEqual(['clean', 'clean', 'clean']);
    expect(CLONES.map((name) => answer<number>(`${name}-host-fsck`))).toEqual([0, 0, 0]);
    expect(stderr).not.toMatch(/has failed|Cannot/);
    expect(exitCode).toBe(0);
  },
  TEST,
);
