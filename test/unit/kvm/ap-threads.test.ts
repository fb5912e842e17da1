/** The threads that keep vCPUs in KVM_RUN, without KVM: a descriptor that is no vCPU makes KVM_RUN fail at once. */
import { describe, expect, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { getThreadAffinity } from '../../../src/ffi/affinity.ts';
import { createEventFd } from '../../../src/ffi/epoll.ts';
import type { HostPointer } from '../../../src/ffi/libc.ts';
import { placeFilter } from '../../../src/ffi/sandbox.ts';
import { IOCTL } from '../../../src/kvm/abi.ts';
import { apThreadCode, AP_THREAD } from '../../../src/kvm/ap-thread-code.ts';
import { ApThreads, type ApExit, type ApThreadStart } from '../../../src/kvm/ap-threads.ts';
import { MAX_HOST_CPUS } from '../../../src/machine/cpu-list.ts';
import { buildFilter } from '../../../src/sandbox/filter.ts';

const ENOTTY = 25;

describe('a waiting thread', () => {
  test('tells its id before it enters KVM_RUN, and what that returned when it leaves', () => {
    using eventFd = createEventFd();
    using threads = new ApThreads(8, () => {});
    const ids = new Map<number, number>();

    const vcpus = [0, 3, 7].map((index) => waiting(index, eventFd.fd));
    threads.start(vcpus, (index, threadId) => ids.set(index, threadId));
    const left = threads.waitForExits(10_000);

    expect([...ids.keys()]).toEqual([0, 3, 7]);
    expect(new Set([...ids.values(), process.pid]).size).toBe(4);
    expect(left.toSorted((a, b) => a.index - b.index)).toEqual(
      [0, 3, 7].map((index) => ({ index, result: -ENOTTY })),
    );
  });

  test('is told of by the event loop when nobody waits for it, and once only', async () => {
    using eventFd = createEventFd();
    const told = Promise.withResolvers<readonly ApExit[]>();
    using threads = new ApThreads(1, told.resolve);

    threads.start([waiting(0, eventFd.fd)], () => {});

    expect(await told.promise).toEqual([{ index: 0, result: -ENOTTY }]);
    expect(threads.waitForExits(0)).toEqual([]);
  });

  test('lays its filter over itself alone', () => {
    using eventFd = createEventFd();
    using threads = new ApThreads(1, () => {});
    const filter = placeFilter(buildFilter('vcpu', process.pid));
    const before = filtersOf('self');

    threads.start([{ ...waiting(0, eventFd.fd), filter }], () => {});

    expect(threads.waitForExits(10_000)).toEqual([{ index: 0, result: -ENOTTY }]);
    expect(filtersOf('self')).toBe(before);
  });

  test('that gets no filter gets no guest, and the error says why', () => {
    using eventFd = createEventFd();
    using threads = new ApThreads(1, () => {});
    const noFilter = placeFilter(new Uint8Array(0));

    expect(() => threads.start([{ ...waiting(0, eventFd.fd), filter: noFilter }], () => {})).toThrow(
      'Cannot start vCPU 0: seccomp failed: EINVAL (invalid argument)',
    );
  });
});

describe('a waiting thread sets for itself', () => {
  test('its host CPUs, and gets no guest where it cannot', () => {
    const scheduling = { cpus: [MAX_HOST_CPUS - 1], nice: undefined };

    expect(() => startOne(scheduling)).toThrow(
      'Cannot start vCPU 0: sched_setaffinity failed: EINVAL (invalid argument); see volt doctor',
    );
  });

  test('its host CPUs and its nice value, before its filter', () => {
    const noFilter = placeFilter(new Uint8Array(0));
    const scheduling = { cpus: [getThreadAffinity(0)[0]!], nice: 19 };

    // What fails is the step behind both.
    expect(() => startOne(scheduling, noFilter)).toThrow('Cannot start vCPU 0: seccomp failed: EINVAL');
  });

  function startOne(scheduling: ApThreadStart['scheduling'], filter?: HostPointer): void {
    using eventFd = createEventFd();
    using threads = new ApThreads(1, () => {});
    threads.start([{ ...waiting(0, eventFd.fd), scheduling, filter }], () => {});
    threads.waitForExits(10_000);
  }
});

describe('its code', () => {
  test('makes the calls of KVM_RUN and of KVM_GET_MP_STATE, in that order, and comes back to the first', () => {
    const code = Buffer.from(apThreadCode());
    const run = code.indexOf(Buffer.of(0xbe, ...bytesOf(IOCTL.run)));
    const getMpState = code.indexOf(Buffer.of(0xbe, ...bytesOf(IOCTL.getMpState)));
    const jump = code.indexOf(0xeb, getMpState);

    expect(run).toBeGreaterThan(0);
    expect(getMpState).toBeGreaterThan(run);
    // The instruction before mov esi: mov edi, [rbx].
    expect(jump + 2 + code.readInt8(jump + 1)).toBe(run - 2);
  });

  test('reads nothing of its row once it has said that it left, for the row may be gone then', () => {
    const code = Buffer.from(apThreadCode());
    const left = code.indexOf(Buffer.of(0xc7, 0x43, AP_THREAD.exited, 1, 0, 0, 0));

    expect(left).toBeGreaterThan(0);
    // lea rsi, [rbx + exited]; mov edx, 1; mov eax, 1 (write); syscall; pop rbx; xor eax, eax; ret
    expect([...code.subarray(left + 7)]).toEqual([
      ...[0x48, 0x8d, 0x73, AP_THREAD.exited, 0xba, 1, 0, 0, 0, 0xb8, 1, 0, 0, 0, 0x0f, 0x05],
      ...[0x5b, 0x31, 0xc0, 0xc3],
    ]);
  });

  test('reaches every field of its row with a signed 8-bit displacement', () => {
    expect(AP_THREAD.cpus).toBeLessThan(0x80);
  });
});

function waiting(index: number, fd: number) {
  return {
    index,
    vcpuFd: fd,
    mpState: new Uint8Array(4),
    scheduling: { cpus: undefined, nice: undefined },
    filter: undefined,
  };
}

function filtersOf(thread: string): string | undefined {
  return /Seccomp_filters:\s*(\d+)/.exec(readFileSync(`/proc/${thread}/status`, 'utf8'))?.[1];
}

function bytesOf(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
}
