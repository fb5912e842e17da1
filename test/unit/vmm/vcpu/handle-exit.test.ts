/** What happens when KVM_RUN returns, without a guest: a kvm_run page, a board, and a vCPU that is made up. */
import { describe, expect, test } from 'bun:test';
import { resetI8042 } from '../../../../src/chips/i8042.ts';
import { resetUart } from '../../../../src/chips/uart.ts';
import { ERRNO, SyscallError } from '../../../../src/ffi/errno.ts';
import { COALESCED_RING, EXIT, KVM_MP_STATE, REGS, RUN, SEGMENT, SREGS } from '../../../../src/kvm/abi.ts';
import { viewCoalescedRing } from '../../../../src/kvm/coalesced.ts';
import { LAYOUT } from '../../../../src/machine/layout.ts';
import { PORT } from '../../../../src/machine/ports.ts';
import { createDeviceState, DEVICE_WORD } from '../../../../src/virtio/transport/device-state.ts';
import { MMIO_REGISTER } from '../../../../src/virtio/transport/mmio.regs.ts';
import type { Board } from '../../../../src/vmm/bus/board.ts';
import {
  createSharedState,
  EXIT_COUNTERS,
  tryLockBus,
  unlockBus,
  VCPU_COMMAND,
  VCPU_MOMENT,
  VCPU_PHASE,
  VCPU_WORD,
  VM_WORD,
} from '../../../../src/vmm/bus/shared-state.ts';
import type { LastSample } from '../../../../src/vmm/vcpu/report.ts';
import { handleExit, viewRunPage, type VcpuContext } from '../../../../src/vmm/vcpu/handle-exit.ts';

/** kvm_run, the page of PIO data behind it, and the ring of coalesced writes. */
const RUN_BYTES = 3 * 4096;
const PIO_DATA = 4096;
const RING_OFFSET = 2 * 4096;
const OUT = 1;
const NOBODY = 0xe000_0000;
const DEVICE_TYPE = 42;
const RIP = 0x1234;
const REGISTERS = { rip: '0x1234', lines: expect.any(Array) };

function createVcpu({ timeline = false } = {}) {
  const shared = createSharedState(1);
  resetUart(shared.uart);
  resetI8042(shared.i8042);
  const page = new ArrayBuffer(RUN_BYTES);
  const sent: number[] = [];
  const requests: string[] = [];
  const state = createDeviceState({
    type: DEVICE_TYPE,
    features: [],
    queueSizes: [8],
    config: Uint8Array.of(1),
  });
  const board: Board = {
    shared,
    uart: {
      words: shared.uart,
      received: shared.received,
      outputs: { transmit: (byte) => sent.push(byte), setInterrupt: () => {} },
    },
    lowMemoryBytes: 64 << 20,
    virtio: [
      {
        state,
        effects: {
          requestSync: () => requests.push('requestSync'),
          sync: () => requests.push('sync'),
          notify: (queue) => requests.push(`notify ${queue}`),
        },
      },
    ],
    bootCpu: 0,
    ring: viewCoalescedRing(page, RING_OFFSET),
    startPit: () => {},
    exitStatus: 0,
  };
  const regs = new DataView(new ArrayBuffer(REGS.size));
  const sregs = new DataView(new ArrayBuffer(SREGS.size));
  regs.setBigUint64(REGS.rip, BigInt(RIP), true);
  const mpStates: number[] = [KVM_MP_STATE.runnable];
  const vcpu: VcpuContext = {
    ...viewRunPage(page),
    kvm: {
      mpState: () => (mpStates.length > 1 ? mpStates.shift()! : mpStates[0]!),
      sipiVector: () => 8,
      regs: () => regs,
      sregs: () => sregs,
    },
    board,
    words: shared.vcpuWords(0),
    moments: shared.vcpuMoments(0),
    timeline,
  };
  const view = new DataView(page);
  /** As KVM does on AMD at a triple fault. */
  const reset = () => {
    for (let at = 0; at < REGS.size; at += 8) regs.setBigUint64(at, 0n, true);
    regs.setBigUint64(REGS.rip, 0xfff0n, true);
    regs.setBigUint64(REGS.rflags, 2n, true);
    regs.setBigUint64(REGS.rdx, 0x600n, true);
    sregs.setUint16(SREGS.cs + SEGMENT.selector, 0xf000, true);
    sregs.setBigUint64(SREGS.cs + SEGMENT.base, 0xffff_0000n, true);
  };
  const exit = (reason: number) => {
    view.setUint32(RUN.exitReason, reason, true);
    return handleExit(vcpu, 0);
  };
  const pio = (direction: 0 | 1, port: number, size: number, data: readonly number[]) => {
    view.setUint8(RUN.io.direction, direction);
    view.setUint8(RUN.io.size, size);
    view.setUint16(RUN.io.port, port, true);
    view.setUint32(RUN.io.count, data.length / size, true);
    view.setUint32(RUN.io.dataOffset, PIO_DATA, true);
    vcpu.run8.set(data, PIO_DATA);
    return exit(EXIT.io);
  };
  const write = (port: number, size: number, ...data: number[]) => pio(OUT, port, size, data);
  const read = (port: number, size: number, count = 1) => {
    const end = pio(0, port, size, Array<number>(size * count).fill(0xcc));
    expect(end).toBeUndefined();
    return [...vcpu.run8.subarray(PIO_DATA, PIO_DATA + size * count)];
  };
  const mmio = (address: number, length: number, written?: bigint) => {
    view.setBigUint64(RUN.mmio.physAddr, BigInt(address), true);
    view.setBigUint64(RUN.mmio.data, written ?? 0n, true);
    view.setUint32(RUN.mmio.length, length, true);
    view.setUint8(RUN.mmio.isWrite, written === undefined ? 0 : 1);
    expect(exit(EXIT.mmio)).toBeUndefined();
    return view.getBigUint64(RUN.mmio.data, true);
  };
  const coalesce = (port: number, byte: number) => {
    const ring = board.ring!;
    const last = ring[COALESCED_RING.last / 4]!;
    ring.set([port, 0, 1, 1, byte, 0], (COALESCED_RING.entries + COALESCED_RING.entryBytes * last) / 4);
    ring[COALESCED_RING.last / 4] = last + 1;
  };
  return {
    ...{ vcpu, shared, board, state, view, sent, requests, regs, mpStates },
    ...{ reset, exit, write, read, mmio, coalesce },
  };
}

describe('port I/O', () => {
  test('a byte written reaches its device, and the vCPU goes on', () => {
    const { write, sent } = createVcpu();
    expect(write(PORT.com1, 1, 0x41)).toBeUndefined();
    expect(sent).toEqual([0x41]);
  });

  test('rep outs is one exit with a count: every element is written, in order', () => {
    const { write, sent } = createVcpu();
    write(PORT.com1, 1, ...Buffer.from('hello'));
    expect(Buffer.from(sent).toString()).toBe('hello');
  });

  test('rep ins fills every element', () => {
    const { read } = createVcpu();
    expect(read(PORT.com1 + 5, 1, 3)).toEqual([0x60, 0x60, 0x60]);
  });

  test.each([1, 2, 4])(
    'a read of %d bytes where there is no device is all ones, and no byte more',
    (size) => {
      const { read, vcpu } = createVcpu();
      vcpu.run8[PIO_DATA + size] = 0x77;
      expect(read(0x1234, size)).toEqual(Array(size).fill(0xff));
      expect(vcpu.run8[PIO_DATA + size]).toBe(0x77);
    },
  );

  test('an element of two bytes is one access of two bytes', () => {
    const { write, read } = createVcpu();
    expect(write(PORT.com1 + 6, 2, 0x00, 0xa5)).toBeUndefined();
    expect(read(PORT.com1 + 7, 1)).toEqual([0xa5]);
  });

  test.each([
    ['the exit port', PORT.exit, 4, [7, 0, 0, 0], { kind: 'guest-exit', status: 7 }],
    [
      'a status with the highest bit',
      PORT.exit,
      4,
      [0, 0, 0, 0x80],
      { kind: 'guest-exit', status: 0x8000_0000 },
    ],
    ['the reset control', PORT.resetControl, 1, [0x06], { kind: 'reset' }],
    ['the keyboard controller', PORT.i8042Command, 1, [0xfe], { kind: 'reset' }],
    ['SLP_EN', PORT.pm1aControl, 2, [0x00, 0x20], { kind: 'power-off' }],
  ] as const)('%s ends the vCPU', (_, port, size, data, report) => {
    const { write } = createVcpu();
    expect(write(port, size, ...data)).toEqual(report);
  });

  test('what ends the guest ends a repeated write: later elements are not written', () => {
    const { write, board } = createVcpu();
    expect(write(PORT.exit, 1, 3, 4, 5)).toEqual({ kind: 'guest-exit', status: 3 });
    expect(board.exitStatus).toBe(3);
  });

  test('the bus lock is free again, also after an end and after a device that throws', () => {
    const { write, shared, board } = createVcpu();
    const isFree = () => {
      const free = tryLockBus(shared.words);
      if (free) unlockBus(shared.words);
      return free;
    };
    write(PORT.exit, 1, 0);
    const afterEnd = isFree();
    Object.assign(board, {
      startPit: () => {
        throw new Error('no PIT');
      },
    });
    expect(() => write(0x40, 1, 0)).toThrow('no PIT');
    expect([afterEnd, isFree()]).toEqual([true, true]);
  });
});

describe('MMIO', () => {
  const device = LAYOUT.virtio.address;

  test('where there is no device reads are all ones, and writes are dropped', () => {
    const { mmio } = createVcpu();
    expect(mmio(NOBODY, 8)).toBe(0xffff_ffff_ffff_ffffn);
    expect(mmio(NOBODY, 4, 0x1234n)).toBe(0x1234n);
    expect(mmio(device + 0x1000, 4)).toBe(0xffff_ffff_ffff_ffffn);
    expect(mmio(2 ** 40 + NOBODY, 1)).toBe(0xffff_ffff_ffff_ffffn);
  });

  test("a read of a device's register gives its bytes", () => {
    const { mmio } = createVcpu();
    expect(mmio(device + MMIO_REGISTER.deviceId, 4)).toBe(BigInt(DEVICE_TYPE));
  });

  test('a read of 8 bytes is two registers', () => {
    const { mmio } = createVcpu();
    expect(mmio(device, 8) >> 32n).toBe(2n);
    expect(mmio(device, 8) & 0xffff_ffffn).toBe(0x7472_6976n);
  });

  test('a write reaches the register, and a notification the queue', () => {
    const { mmio, state, requests } = createVcpu();
    mmio(device + MMIO_REGISTER.queueSel, 4, 0x0102n);
    mmio(device + MMIO_REGISTER.queueNotify, 4, 0n);
    expect(state.words[DEVICE_WORD.queueSel]).toBe(0x0102);
    expect(requests).toEqual(['notify 0']);
  });
});

describe('other exits', () => {
  test.each(['intr', 'irqWindowOpen', 'setTpr', 'hlt', 'ioapicEoi'] as const)(
    '%s: the vCPU goes on',
    (name) => {
      const { exit } = createVcpu();
      expect(exit(EXIT[name])).toBeUndefined();
    },
  );

  test('a triple fault ends it, with its registers', () => {
    const { exit } = createVcpu();
    expect(exit(EXIT.shutdown)).toEqual({ kind: 'triple-fault', registers: REGISTERS });
  });

  test('a triple fault with which KVM resets the vCPU, as on AMD, has no registers to show', () => {
    const { exit, reset } = createVcpu();
    reset();
    expect(exit(EXIT.shutdown)).toEqual({
      kind: 'triple-fault',
      registers: undefined,
      lastSample: undefined,
    });
  });

  test('... but those of the last sample', () => {
    const { vcpu, exit, reset, regs } = createVcpu();
    regs.setBigUint64(REGS.rax, 0xabcdn, true);
    regs.setBigUint64(REGS.rflags, 0x46n, true);
    vcpu.words[VCPU_WORD.sampleWanted] = 1;
    handleExit(vcpu, ERRNO.EINTR);
    reset();

    const report = exit(EXIT.shutdown);

    expect(report).toEqual({
      kind: 'triple-fault',
      registers: undefined,
      lastSample: { rip: '0x1234', lines: expect.any(Array), ageMs: expect.any(Number) },
    });
    const { lastSample } = report as unknown as { lastSample: LastSample };
    expect(lastSample.lines.join('\n')).toContain('rax    000000000000abcd');
    expect(lastSample.ageMs).toBeLessThan(60_000);
  });

  test.each([
    [EXIT.hypercall, 'hypercall'],
    [EXIT.x86Rdmsr, 'x86Rdmsr'],
    [EXIT_COUNTERS, '?'],
    [0xffff_ffff, '?'],
  ])('reason %d, which Volt never enables, ends it and is named', (reason, name) => {
    const { exit } = createVcpu();
    expect(exit(reason)).toEqual({
      kind: 'kvm-failure',
      what: `KVM exited with reason ${reason} (${name}), which Volt never enables`,
      details: [],
      registers: REGISTERS,
    });
  });

  test('an internal error is reported with the bytes of the instruction', () => {
    const { exit, view } = createVcpu();
    view.setUint32(RUN.internal.suberror, 1, true);
    view.setUint32(RUN.internal.ndata, 4, true);
    view.setBigUint64(RUN.internal.data, 1n, true);
    view.setUint8(RUN.internal.insnSize, 2);
    view.setUint16(RUN.internal.insnBytes, 0x0b0f, true);
    expect(exit(EXIT.internalError)).toMatchObject({
      kind: 'kvm-failure',
      details: ['internal error 1', 'instruction bytes 0f 0b'],
    });
  });
});

describe('counters', () => {
  test('each exit is counted by its reason, and no other word changes', () => {
    const { vcpu, exit, write } = createVcpu();
    write(PORT.com1, 1, 0x41);
    write(PORT.com1, 1, 0x42);
    exit(EXIT.hlt);
    exit(EXIT_COUNTERS);
    const counts = [...vcpu.words.subarray(VCPU_WORD.exits)];
    expect([counts[EXIT.io], counts[EXIT.hlt]]).toEqual([2, 1]);
    expect(counts.reduce((sum, count) => sum + count)).toBe(3);
  });

  test('a kick is no exit', () => {
    const { vcpu } = createVcpu();
    handleExit(vcpu, ERRNO.EINTR);
    expect(vcpu.words.subarray(VCPU_WORD.exits).every((count) => count === 0)).toBe(true);
  });
});

describe('coalesced writes', () => {
  test('come before what the vCPU exited for', () => {
    const { coalesce, write, sent } = createVcpu();
    coalesce(PORT.com1, 0x61);
    write(PORT.com1, 1, 0x62);
    expect(sent).toEqual([0x61, 0x62]);
  });

  test('are not lost when KVM_RUN fails for good', () => {
    const { vcpu, coalesce, sent } = createVcpu();
    coalesce(PORT.com1, 0x61);
    expect(() => handleExit(vcpu, ERRNO.EFAULT)).toThrow(SyscallError);
    expect(sent).toEqual([0x61]);
  });
});

describe('KVM_RUN that fails', () => {
  test.each([
    [ERRNO.EFAULT, 'the guest touched memory that the host cannot provide'],
    [ERRNO.ENOMEM, 'the host ran out of memory for the guest'],
  ])('errno %d throws, with what it means', (errno, advice) => {
    const { vcpu } = createVcpu();
    expect(() => handleExit(vcpu, errno)).toThrow(advice);
  });

  test('EAGAIN brings the MP state of an AP that received an INIT up to date', () => {
    const { vcpu, mpStates } = createVcpu();
    mpStates.splice(0, 1, KVM_MP_STATE.initReceived);
    expect(handleExit(vcpu, ERRNO.EAGAIN)).toBeUndefined();
    expect(vcpu.words[VCPU_WORD.mpState]).toBe(KVM_MP_STATE.initReceived);
    expect(vcpu.moments[VCPU_MOMENT.started]).toBe(0);
  });

  test('EAGAIN with a timeline notes when the SIPI follows', () => {
    const { vcpu, mpStates } = createVcpu({ timeline: true });
    const { initReceived, runnable } = KVM_MP_STATE;
    mpStates.splice(0, 1, initReceived, initReceived, runnable);
    expect(handleExit(vcpu, ERRNO.EAGAIN)).toBeUndefined();
    expect(vcpu.moments[VCPU_MOMENT.started]).toBeGreaterThan(0);
  });
});

describe('a kick (EINTR)', () => {
  test('without a command is over at once', () => {
    const { vcpu } = createVcpu();
    vcpu.run8[RUN.immediateExit] = 1;
    expect(handleExit(vcpu, ERRNO.EINTR)).toBeUndefined();
    expect(vcpu.run8[RUN.immediateExit]).toBe(0);
    expect(vcpu.words[VCPU_WORD.phase]).toBe(VCPU_PHASE.running);
  });

  test('with stop ends the vCPU', () => {
    const { vcpu } = createVcpu();
    vcpu.words[VCPU_WORD.command] = VCPU_COMMAND.stop;
    expect(handleExit(vcpu, ERRNO.EINTR)).toEqual({ kind: 'stopped' });
  });

  test('with a request for a sample publishes registers and MP state', () => {
    const { vcpu, regs, mpStates } = createVcpu();
    regs.setBigUint64(REGS.rip, 0xffff_ffff_8100_0000n, true);
    mpStates.splice(0, 1, KVM_MP_STATE.sipiReceived);
    vcpu.words[VCPU_WORD.sampleWanted] = 3;

    handleExit(vcpu, ERRNO.EINTR);

    const at = VCPU_WORD.regs + REGS.rip / 4;
    expect([...vcpu.words.subarray(at, at + 2)]).toEqual([0x8100_0000 | 0, -1]);
    expect(vcpu.words[VCPU_WORD.sampleDone]).toBe(3);
    expect(vcpu.words[VCPU_WORD.sipiVector]).toBe(8);
  });

  test('without a request reads nothing of the vCPU', () => {
    const { vcpu } = createVcpu();
    const fail = () => {
      throw new Error('asked KVM');
    };
    const unasked = { ...vcpu, kvm: { mpState: fail, sipiVector: fail, regs: fail, sregs: fail } };
    expect(handleExit(unasked, ERRNO.EINTR)).toBeUndefined();
  });
});

test('a full console keeps no vCPU waiting once the VM is ending', () => {
  const { coalesce, exit, shared, sent } = createVcpu();
  coalesce(PORT.com1, 0x61);
  Atomics.store(shared.words, VM_WORD.transmitHead, shared.transmitted.length);
  Atomics.store(shared.words, VM_WORD.ending, 1);
  expect(exit(EXIT.hlt)).toBeUndefined();
  expect(sent).toEqual([]);
});
