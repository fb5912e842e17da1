import { describe, expect, test } from 'bun:test';
import { cgroupLimits } from '../../../src/api/cgroup-limits.ts';
import { cgroupWarnings } from '../../../src/api/host-warnings.ts';

const MIB = 2 ** 20;
const NO_LIMIT = '9223372036854771712\n';

function limitsOf(files: Readonly<Record<string, string>>) {
  return cgroupLimits((path) => files[path]);
}

describe('limits of cgroup version 2', () => {
  test('are the lowest of the group and those above it', () => {
    const limits = limitsOf({
      '/proc/self/cgroup': '0::/machine.slice/guest\n',
      '/sys/fs/cgroup/machine.slice/guest/memory.max': 'max\n',
      '/sys/fs/cgroup/machine.slice/memory.max': '268435456\n',
      '/sys/fs/cgroup/machine.slice/guest/pids.max': '100\n',
      '/sys/fs/cgroup/machine.slice/guest/cpu.max': '150000 100000\n',
      '/sys/fs/cgroup/machine.slice/cpu.max': 'max 100000\n',
    });

    expect(limits).toEqual({ memoryBytes: 256 * MIB, tasks: 100, cpus: 1.5 });
  });

  test('are those of the mount in a container, whose group is its root', () => {
    const limits = limitsOf({ '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/memory.max': '1048576\n' });

    expect(limits).toEqual({ memoryBytes: MIB, tasks: Infinity, cpus: Infinity });
  });
});

describe('limits of cgroup version 1', () => {
  test('are found though a container sees the path of the host', () => {
    const limits = limitsOf({
      '/proc/self/cgroup': '7:cpu,cpuacct:/docker/ab\n5:pids:/docker/ab\n4:memory:/docker/ab\n0::/\n',
      '/sys/fs/cgroup/memory/memory.limit_in_bytes': '134217728\n',
      '/sys/fs/cgroup/pids/pids.max': '64\n',
      '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '50000\n',
      '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
    });

    expect(limits).toEqual({ memoryBytes: 128 * MIB, tasks: 64, cpus: 0.5 });
  });

  test('that mean no limit are none', () => {
    const limits = limitsOf({
      '/proc/self/cgroup': '7:cpu:/\n5:pids:/\n4:memory:/\n',
      '/sys/fs/cgroup/memory/memory.limit_in_bytes': NO_LIMIT,
      '/sys/fs/cgroup/pids/pids.max': 'max\n',
      '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1\n',
      '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
    });

    expect(limits).toEqual({ memoryBytes: Infinity, tasks: Infinity, cpus: Infinity });
  });
});

test('a host without cgroups, or with nonsense in their files, has no limits', () => {
  const nonsense = limitsOf({ '/proc/self/cgroup': '4:memory\n0::relative\n::\n' });

  expect([limitsOf({}), nonsense]).toEqual([
    { memoryBytes: Infinity, tasks: Infinity, cpus: Infinity },
    { memoryBytes: Infinity, tasks: Infinity, cpus: Infinity },
  ]);
});

describe('warnings about the limits', () => {
  const guest = { memoryBytes: 256 * MIB, hugepages: false, maxCpus: 2, devices: [] };
  const roomy = { memoryBytes: 320 * MIB, tasks: 26, cpus: 0.1 };

  test('are not given when the guest and Volt fit', () => {
    expect(cgroupWarnings(guest, roomy)).toEqual([]);
  });

  test('name the memory that fits, and the limit that the guest needs', () => {
    expect(cgroupWarnings(guest, { ...roomy, memoryBytes: 256 * MIB })).toEqual([
      'the guest has 256 MiB of RAM, but the memory limit of this container or service is 256 MiB, so the host kills Volt when the guest uses its RAM; use --memory 192M, or raise the limit to 320 MiB',
    ]);
  });

  test('recommend no guest smaller than Volt has', () => {
    expect(cgroupWarnings(guest, { ...roomy, memoryBytes: 80 * MIB })[0]).toEndWith(
      'uses its RAM; raise the limit to 320 MiB',
    );
  });

  test('are not given for huge pages, which this limit does not count', () => {
    expect(cgroupWarnings({ ...guest, hugepages: true }, { ...roomy, memoryBytes: MIB })).toEqual([]);
  });

  test('name the threads that Volt needs', () => {
    expect(cgroupWarnings(guest, { ...roomy, tasks: 25 })).toEqual([
      'Volt needs up to 26 threads, but the limit of this container or service is 25; raise it (pids.max), or use fewer --cpus',
    ]);
  });
});
