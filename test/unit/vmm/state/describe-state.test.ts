import { describe, expect, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { compareCpu } from '../../../../src/vmm/state/cpu-compatibility.ts';
import { cpuNeedsOf } from '../../../../src/vmm/state/cpu-needs.ts';
import { describeState } from '../../../../src/vmm/state/describe-state.ts';
import { decodeState, encodeState } from '../../../../src/vmm/state/machine-state.ts';
import { decodeCpuid, encodeCpuid } from '../../../../src/kvm/cpuid-codec.ts';
import { AMD, guestsOf, INTEL } from '../../cpuid/hosts.ts';
import { describedGuest, LONG_SREGS, segment, struct } from './described-guest.ts';
import { sampleState } from './sample-state.ts';

const described = describeState(describedGuest(AMD));
const [vcpu] = described.vcpus;

describe('a vCPU', () => {
  test('has its registers, flags, control registers and mode', () => {
    expect(vcpu).toMatchObject({
      ...{ index: 0, apicId: 0, parked: false, mpState: 'halted', mode: '64-bit long mode', pagingLevels: 4 },
      registers: { rip: '0xffffffff810000f0', rsp: '0xffffc90000012345', rax: '0x1122', rflags: '0x30246' },
      flags: ['PF', 'ZF', 'IF', 'RF', 'VM', 'IOPL=0'],
      control: { cr0: '0x80050033', cr3: '0x12345000', cr4: '0x750ef0', efer: '0xd01' },
      controlBits: {
        cr0: ['PE', 'MP', 'ET', 'NE', 'WP', 'AM', 'PG'],
        cr4: ['PSE', 'PAE', 'MCE', 'PGE', 'OSFXSR', 'OSXMMEXCPT', 'UMIP', 'FSGSBASE', 'OSXSAVE', 'SMEP', 'SMAP', 'PKE'], // prettier-ignore
        efer: ['SCE', 'LME', 'LMA', 'NXE'],
      },
    });
  });

  test('has its segments and tables', () => {
    expect(vcpu!.segments).toMatchObject({
      cs: { selector: 0x10, base: '0x10000', limit: 0xffff_ffff, kind: 'code', dpl: 0 },
      ds: { selector: 0x18, kind: 'data' },
      tr: { selector: 0x40, kind: 'system' },
      ldt: { kind: 'unusable' },
    });
    expect(vcpu!.tables.gdt).toEqual({ base: '0xfffffe0000001000', limit: 0x7f });
  });

  test('has its local APIC', () => {
    expect(vcpu!.lapic).toEqual({
      ...{ mode: 'x2APIC', bsp: true, id: 3, version: 0x14, taskPriority: 0x20, processorPriority: 0 },
      ...{ softwareEnabled: true, spuriousVector: 0xff, logicalDestination: 0, errorStatus: 0 },
      inService: [49],
      requested: [236, 237],
      lvt: {
        timer: { vector: 0xec, mode: 'fixed', masked: false },
        thermal: { vector: 0, mode: 'fixed', masked: false },
        performance: { vector: 0, mode: 'fixed', masked: false },
        lint0: { vector: 0, mode: 'ExtINT', masked: true },
        lint1: { vector: 0, mode: 'NMI', masked: false },
        error: { vector: 0, mode: 'fixed', masked: false },
      },
      timer: { mode: 'TSC-deadline', initialCount: 1000, currentCount: 600, divisor: 1 },
    });
  });

  test('has its events, MSRs, FPU and debug registers', () => {
    expect(vcpu!.events).toEqual(['exception #PF pending, error code 0x2', 'NMI pending']);
    expect(vcpu!.msrs).toEqual([
      { index: 0x1b, name: 'IA32_APIC_BASE', value: '0xfee00d00' },
      { index: 0xc000_0082, name: 'LSTAR', value: '0xffffffff81000000' },
      { index: 0xda0, name: 'IA32_XSS', value: '0x0' },
      { index: 0x202, name: 'IA32_MTRR_PHYSBASE1', value: '0x6' },
    ]);
    expect(vcpu!.fpu).toEqual({ bytes: 4096, components: ['x87', 'SSE', 'AVX'], xcr0: '0x207' });
    expect(vcpu!.debug).toMatchObject({ dr0: '0xabc', dr1: '0x0', dr6: '0xffff0ff0', dr7: '0x401' });
  });

  test.each([
    ['real mode', 0, { cr0: 0x10, cr4: 0, efer: 0 }, { l: 0, db: 0 }],
    ['16-bit protected mode', 0, { cr0: 0x11, cr4: 0, efer: 0 }, { l: 0, db: 0 }],
    ['32-bit protected mode', 2, { cr0: 0x8000_0011, cr4: 0, efer: 0 }, { l: 0, db: 1 }],
    ['32-bit protected mode', 3, { cr0: 0x8000_0011, cr4: 0x20, efer: 0 }, { l: 0, db: 1 }],
    ['compatibility mode', 4, { cr0: 0x8000_0011, cr4: 0x20, efer: 0x500 }, { l: 0, db: 1 }],
    ['64-bit long mode', 5, { cr0: 0x8000_0011, cr4: 0x1020, efer: 0x500 }, { l: 1, db: 0 }],
  ])('is in %s with %d levels of page tables', (mode, pagingLevels, { cr0, cr4, efer }, code) => {
    const state = describedGuest();
    const sregs = struct(0x140, [
      ...LONG_SREGS,
      ...segment(0, 8, 0xb, code),
      ...([
        [0xe0, 8, cr0],
        [0xf8, 8, cr4],
        [0x108, 8, efer],
      ] as const),
    ]);
    const regs = struct(0x90, [[0x88, 8, 2]]);
    const [found] = describeState({ ...state, vcpus: [{ ...state.vcpus[0]!, sregs, regs }] }).vcpus;

    expect([found!.mode, found!.pagingLevels]).toEqual([mode, pagingLevels]);
  });

  test('in xAPIC mode has its APIC id in the high byte', () => {
    const state = describedGuest();
    const sregs = struct(0x140, [...LONG_SREGS, [0x110, 8, 0xfee0_0800]]);
    const lapic = struct(0x400, [[0x20, 4, 0x0700_0000]]);
    const [found] = describeState({ ...state, vcpus: [{ ...state.vcpus[0]!, sregs, lapic }] }).vcpus;

    expect(found!.lapic).toMatchObject({ mode: 'xAPIC', id: 7, bsp: false, softwareEnabled: false });
  });
});

test.each([
  ['as it is', 0x0000_012c, 300],
  ['in the high byte, as KVM gives it to a VM without 32-bit ids', 0x0700_0000, 7],
  ['of the first CPU', 0, 0],
])('an APIC id in x2APIC mode is read %s', (_, register, id) => {
  const state = describedGuest();
  const lapic = struct(0x400, [[0x20, 4, register]]);
  const [found] = describeState({ ...state, vcpus: [{ ...state.vcpus[0]!, lapic }] }).vcpus;

  expect(found!.lapic).toMatchObject({ mode: 'x2APIC', id });
});

describe('a machine', () => {
  test('has its identity, memory and clock', () => {
    expect(described).toMatchObject({
      ...{ id: '00112233445566778899aabbccddeeff', createdAt: '2023-11-14T22:13:20.000Z', volt: '1.0.0' },
      ...{ protocol: 'pvh', vmGenerationIdAddress: 0xe_ff00 },
      cpu: { model: 'AuthenticAMD, family 26, model 2, stepping 1' },
      memory: {
        bytes: 64 * 2 ** 20,
        layers: [
          { file: 'memory-00', bytes: 64 * 2 ** 20, runs: undefined },
          { file: 'memory-01', bytes: 12_288, runs: 2 },
        ],
      },
      clock: {
        ...{ kvmclockNs: 12_345_678_901, tscStable: true, hostTsc: undefined },
        realtimeNs: 1_700_000_000_000_000_000,
      },
    });
  });

  test('has its I/O APIC, PICs and PIT', () => {
    const { ioapic, pics, pit } = described;
    expect(ioapic.entries.filter(({ masked }) => !masked)).toEqual([
      {
        ...{ pin: 2, vector: 0x30, mode: 'fixed', destination: 3, destinationMode: 'physical' },
        ...{ trigger: 'edge', polarity: 'high', masked: false, remoteIrr: false },
      },
      {
        ...{ pin: 5, vector: 0x31, mode: 'fixed', destination: 0, destinationMode: 'logical' },
        ...{ trigger: 'level', polarity: 'low', masked: false, remoteIrr: true },
      },
    ]);
    expect([ioapic.id, ioapic.requested]).toEqual([4, [5]]);
    expect(pics.master).toMatchObject({ vectorBase: 0x30, masked: [0, 1, 3, 4, 5, 6, 7], inService: [4] });
    expect(pics.slave).toMatchObject({ vectorBase: 0x38, level: [2, 3], requested: [] });
    expect(pit![0]).toEqual({ mode: 2, count: 65_536, bcd: false, gate: true });
  });

  test('has its chips and devices', () => {
    expect(described.chips).toMatchObject({ uartReceived: 3, acpiEvents: ['power button', 'VM generation'] });
    expect(described.devices).toEqual([
      {
        ...{ id: 'net0', kind: 'net', address: 0xd000_2000, interruptStatus: 1, active: true },
        status: ['ACKNOWLEDGE', 'DRIVER', 'FEATURES_OK', 'DRIVER_OK'],
        features: ['mac', 'status', 'version1'],
        ...{ failures: 0, failure: undefined, words: { announcements: 2 } },
        buckets: [{ limit: 'received operations', size: 100, refillMs: 1000, tokens: -3.5, burst: 0 }],
        queues: [
          {
            ...{ queue: 0, size: 256, ready: true, next: 17, wrap: 1 },
            ...{ descriptors: '0x100001000', driver: '0x2000', device: '0x3000' },
          },
        ],
      },
    ]);
  });

  test('of a kind of device that there is not, or of any bytes at all, is described', () => {
    const state = describedGuest();
    const devices = ['toString', '__proto__', 'wheel'].map((kind) => ({ ...state.devices[0]!, kind }));

    expect(describeState({ ...state, devices }).devices.map(({ features }) => features)).toEqual([
      [],
      [],
      [],
    ]);
    expect(describeState(sampleState(3)).vcpus).toHaveLength(3);
  });
});

test('the golden state file is of a kernel in its timer test, which its own CPU fits', () => {
  const file = resolve(import.meta.dir, '../../../vectors/state/format-1');
  const state = decodeState(readFileSync(file), file);
  const { vcpus, ioapic, pit, devices, cpu } = describeState(state);
  const needs = cpuNeedsOf(state);

  expect(vcpus.map(({ mpState, mode, pagingLevels }) => [mpState, mode, pagingLevels])).toEqual([
    ['runnable', '64-bit long mode', 4],
    ['halted', '64-bit long mode', 4],
  ]);
  expect(vcpus.map(({ lapic }) => [lapic.id, lapic.bsp, lapic.timer.mode])).toEqual([
    [0, true, 'periodic'],
    [1, false, 'one-shot'],
  ]);
  expect(vcpus[0]!.msrs.at(-1)!.name).toBe('IA32_TSC');
  expect(ioapic.entries.every(({ masked }) => masked)).toBe(true);
  expect(pit).toBeUndefined();
  expect(devices).toMatchObject([{ id: 'rng', kind: 'entropy', active: false, queues: [] }]);
  expect(cpu.model).toBe('GenuineIntel, family 6, model 207, stepping 2');
  expect(compareCpu(needs, { cpuid: needs.tables[0]!, msrs: new Set(needs.msrs.keys()) }).verdict).toBe(
    'fine',
  );
});

test('what a guest needs of a CPU is read back from the file', () => {
  const state = decodeState(encodeState(describedGuest(AMD)), 'a test');

  const needs = cpuNeedsOf(state);

  expect(needs.tables).toEqual([[...AMD]]);
  expect(needs.msrs.get(0xc000_0082)).toBe(0xffff_ffff_8100_0000n);
  expect(needs.tscKhz).toBe(2_300_000);
});

test('vCPUs that differ in their APIC ids alone need one table, another feature makes it two', () => {
  const topology = { sockets: 1, diesPerSocket: 1, coresPerDie: 4, threadsPerCore: 1 };
  const state = describedGuest(INTEL);
  const [first, ...others] = guestsOf(INTEL, topology).map(({ table }) => ({
    ...state.vcpus[0]!,
    cpuid: encodeCpuid(table),
  }));
  const forged = decodeCpuid(first!.cpuid).map((entry) =>
    entry.function === 1 ? { ...entry, ecx: (entry.ecx ^ 1) >>> 0 } : entry,
  );

  const alike = cpuNeedsOf({ vcpus: [first!, ...others] });
  const unlike = cpuNeedsOf({ vcpus: [first!, ...others, { ...first!, cpuid: encodeCpuid(forged) }] });

  expect(others).toHaveLength(3);
  expect([alike.tables.length, unlike.tables.length]).toEqual([1, 2]);
});

test('a table that counts more entries than it has is cut', () => {
  const state = describedGuest(AMD);
  const cpuid = state.vcpus[0]!.cpuid.slice();
  new DataView(cpuid.buffer).setUint32(0, 0xffff_ffff, true);

  const { tables } = cpuNeedsOf({ vcpus: [{ ...state.vcpus[0]!, cpuid }] });

  expect(tables[0]).toHaveLength(AMD.length);
});
