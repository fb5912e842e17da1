/** The threads that keep vCPUs in KVM_RUN, without KVM: a descriptor that is no vCPU makes KVM_RUN fail at once. */
import { describe, expect, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { getThreadAffinity } from '../../../src/ffi/affinity.ts';
import { createEventFd } from '../../../src/ffi/epoll.ts';
import type { HostPointer } from '../../../src/ffi/libc.ts';
import { placeFilter } from '../../../src/ffi/sandbox.ts';
import { IOCTL, REGS, RUN } from '../../../src/kvm/abi.ts';
import { AP_ORDER, AP_THREAD, apThreadCode } from '../../../src/kvm/ap-thread-code.ts';
import { ApThreads, type ApExit, type ApThreadStart } from '../../../src/kvm/ap-threads.ts';
import { KvmSystem } from '../../../src/kvm/system.ts';
import { readRegs, type KvmVcpu } from '../../../src/kvm/vcpu.ts';
import { MAX_HOST_CPUS } from '../../../src/machine/cpu-list.ts';
import { buildFilter } from '../../../src/sandbox/filter.ts';
import { kvmOpens } from '../../cli/volt-process.ts';
import { testNeeding } from '../../support/needs.ts';

const ENOTTY = 25;
const EINTR = 4;
const needsKvm = testNeeding('/dev/kvm', !kvmOpens);

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

describe('a kicked thread', () => {
  needsKvm('holds its vCPU until it is ordered to run, again and again, and then to leave', async () => {
    using machine = new VcpuOutside();
    const held = machine.nextHeld();
    machine.start();
    await held;

    for (let i = 0; i < 50; i++) {
      const again = machine.nextHeld();
      machine.threads.run(0);
      await again;
    }
    machine.threads.leave(0);

    expect(machine.threads.waitForExits(10_000)).toEqual([{ index: 0, result: -EINTR }]);
    expect(machine.threads.allExited).toBe(true);
  });

  needsKvm('that was ordered to leave before does so by itself', () => {
    using machine = new VcpuOutside();

    machine.start();
    machine.threads.leave(0);

    expect(machine.threads.waitForExits(10_000)).toEqual([{ index: 0, result: -EINTR }]);
  });

  needsKvm('lets others use its vCPU', async () => {
    using machine = new VcpuOutside();
    const held = machine.nextHeld();
    machine.start();
    await held;

    expect(readRegs(machine.vcpu.fd).getBigUint64(REGS.rip, true)).toBe(0xfff0n);
    machine.threads.leave(0);
    machine.threads.waitForExits(10_000);
  });

  /** A vCPU that never enters the guest: KVM_RUN returns EINTR at once, as after a kick. */
  class VcpuOutside implements Disposable {
    readonly #owned = new DisposableStack();
    readonly vcpu: KvmVcpu;
    readonly threads: ApThreads;
    #onHeld = () => {};

    constructor() {
      const vm = this.#owned.use(this.#owned.use(new KvmSystem()).createVm());
      vm.createInterruptControllers();
      this.vcpu = this.#owned.use(vm.createVcpu(0));
      new Uint8Array(this.vcpu.runPage.view(0, RUN.exitReason))[RUN.immediateExit] = 1;
      this.threads = this.#owned.use(
        new ApThreads(
          1,
          () => {},
          () => this.#onHeld(),
        ),
      );
    }

    start(): void {
      this.threads.start([waiting(0, this.vcpu.fd)], () => {});
    }

    nextHeld(): Promise<void> {
      return new Promise((resolve) => (this.#onHeld = resolve));
    }

    [Symbol.dispose](): void {
      this.#owned.dispose();
    }
  }
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
    const jump = code.indexOf(0xe9, getMpState);

    expect(run).toBeGreaterThan(0);
    expect(getMpState).toBeGreaterThan(run);
    // The instruction before mov esi: mov edi, [rbx].
    expect(jump + 5 + code.readInt32LE(jump + 1)).toBe(run - 2);
  });

  test('comes back to KVM_RUN by the order to run, and to its wait without an order', () => {
    const code = Buffer.from(apThreadCode());
    const run = code.indexOf(Buffer.of(0xbe, ...bytesOf(IOCTL.run)));
    // lea rdi, [rbx + order]; cmp dword [rbx + order], 0; lock cmpxchg [rbx + order], ecx
    const wait = code.indexOf(Buffer.of(0x48, 0x8d, 0x7b, AP_THREAD.order));
    const compare = code.indexOf(Buffer.of(0x83, 0x7b, AP_THREAD.order, AP_ORDER.none));
    const take = code.indexOf(Buffer.of(0xf0, 0x0f, 0xb1, 0x4b, AP_THREAD.order));

    expect(wait).toBeGreaterThan(run);
    // je wait; je to the next KVM_RUN
    expect(code[compare + 4]).toBe(0x74);
    expect(compare + 6 + code.readInt8(compare + 5)).toBe(wait);
    expect([...code.subarray(take + 5, take + 7)]).toEqual([0x0f, 0x84]);
    expect(take + 11 + code.readInt32LE(take + 7)).toBe(run - 2);
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
