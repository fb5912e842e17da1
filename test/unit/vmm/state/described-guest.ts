/** A saved guest with known registers, written at offsets of KVM's headers and not by the tables under test. */
import type { MachineState } from '../../../../src/vmm/state/machine-state.ts';
import { encodeCpuid } from '../../../../src/kvm/cpuid-codec.ts';
import type { CpuidEntry } from '../../../../src/machine/cpuid-entry.ts';
import { sampleState } from './sample-state.ts';

type Field = readonly [offset: number, bytes: 1 | 2 | 4 | 8, value: number | bigint];

/** A structure of zeroes with these fields. */
export function struct(size: number, fields: readonly Field[]): Uint8Array {
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  for (const [offset, width, value] of fields) {
    if (width === 8) view.setBigUint64(offset, BigInt(value), true);
    else if (width === 4) view.setUint32(offset, Number(value), true);
    else if (width === 2) view.setUint16(offset, Number(value), true);
    else view.setUint8(offset, Number(value));
  }
  return bytes;
}

/** struct kvm_segment: base, limit, selector, type, present, dpl, db, s, l, g, avl, unusable. */
export function segment(
  at: number,
  selector: number,
  type: number,
  flags: { l?: number; db?: number; s?: number; dpl?: number; unusable?: number } = {},
): Field[] {
  return [
    [at, 8, selector * 0x1000],
    [at + 8, 4, 0xffff_ffff],
    [at + 12, 2, selector],
    [at + 14, 1, type],
    [at + 15, 1, 1],
    [at + 16, 1, flags.dpl ?? 0],
    [at + 17, 1, flags.db ?? 0],
    [at + 18, 1, flags.s ?? 1],
    [at + 19, 1, flags.l ?? 0],
    [at + 22, 1, flags.unusable ?? 0],
  ];
}

export const LONG_SREGS: readonly Field[] = [
  ...segment(0x00, 0x10, 0xb, { l: 1 }),
  ...segment(0x18, 0x18, 0x3),
  ...segment(0x90, 0x40, 0xb, { s: 0 }),
  ...segment(0xa8, 0, 0, { unusable: 1 }),
  [0xc0, 8, 0xffff_fe00_0000_1000n],
  [0xc8, 2, 0x7f],
  [0xe0, 8, 0x8005_0033],
  [0xf0, 8, 0x1234_5000],
  [0xf8, 8, 0x0075_0ef0],
  [0x108, 8, 0xd01],
  // x2APIC, enabled, BSP
  [0x110, 8, 0xfee0_0d00],
];

const LAPIC: readonly Field[] = [
  [0x20, 4, 3],
  [0x30, 4, 0x50014],
  [0x80, 4, 0x20],
  [0xf0, 4, 0x1ff],
  [0x100 + 0x10 * 1, 4, 1 << 17], // ISR: vector 49
  [0x200 + 0x10 * 7, 4, (1 << 12) | (1 << 13)], // IRR: 236, 237
  [0x320, 4, (2 << 17) | 0xec],
  [0x350, 4, 0x1_0700],
  [0x360, 4, 0x400],
  [0x380, 4, 1000],
  [0x390, 4, 600],
  [0x3e0, 4, 0xb],
];

/** Pin 2 to CPU 3, edge; pin 5: level, active low, in service; all others masked. */
function ioApic(): Uint8Array {
  const entries = Array.from({ length: 24 }, (_, pin): Field => [0x08 + 0x18 + 8 * pin, 8, 0x1_0000]);
  entries[2] = [0x08 + 0x18 + 16, 8, 0x0300_0000_0000_0030n];
  entries[5] = [0x08 + 0x18 + 40, 8, 0x0000_0000_0000_e831n];
  return struct(0x208, [[0, 4, 2], [0x08 + 0x0c, 4, 0x4], [0x08 + 0x10, 4, 0x20], ...entries]);
}

const NET: MachineState['devices'][number] = {
  ...{ kind: 'net', id: 'net0', slot: 2, offered: [0x20, 1], negotiated: [0x1_0020, 1] },
  ...{ status: 0x0f, interruptStatus: 1, selectors: { deviceFeatures: 0, driverFeatures: 0, queue: 1 } },
  ...{ generation: 0, config: '', active: true, failures: 0, failure: undefined, pci: undefined },
  queues: [
    {
      size: 256,
      ready: 1,
      descriptors: [0x1000, 1],
      driver: [0x2000, 0],
      device: [0x3000, 0],
      next: 17,
      wrap: 1,
    },
    { size: 0, ready: 0, descriptors: [0, 0], driver: [0, 0], device: [0, 0], next: 0, wrap: 0 },
  ],
  words: { announcements: 2 },
  buckets: [null, { size: 100, refillMs: 1000, tokens: -3.5, burst: 0 }],
};

/** One vCPU that runs Linux's kernel in long mode, with a network device. `cpuid` is what it has seen. */
export function describedGuest(cpuid: readonly CpuidEntry[] = []): MachineState {
  const state = sampleState(1);
  const [vcpu] = state.vcpus;
  const msrs = [
    [0x1b, 0xfee0_0d00],
    [0xc000_0082, 0xffff_ffff_8100_0000n],
    [0xda0, 0],
    [0x202, 6],
  ] as const;
  return {
    ...state,
    vcpus: [
      {
        ...vcpu!,
        mpState: 3,
        cpuid: encodeCpuid(cpuid),
        regs: struct(0x90, [[0x00, 8, 0x1122], [0x30, 8, 0xffff_c900_0001_2345n], [0x80, 8, 0xffff_ffff_8100_00f0n], [0x88, 8, 0x3_0246]]), // prettier-ignore
        sregs: struct(0x140, LONG_SREGS),
        xsave: struct(0x1000, [[512, 8, 0b111]]),
        xcrs: struct(0x188, [[0, 4, 1], [8, 4, 0], [0x10, 8, 0x207]]), // prettier-ignore
        debugRegs: struct(0x80, [[0, 8, 0xabc], [0x20, 8, 0xffff_0ff0], [0x28, 8, 0x401]]), // prettier-ignore
        lapic: struct(0x400, LAPIC),
        msrs: struct(msrs.length * 16, msrs.flatMap(([index, value], i): Field[] => [[i * 16, 4, index], [i * 16 + 8, 8, value]])), // prettier-ignore
        events: struct(0x40, [[0x01, 1, 14], [0x02, 1, 1], [0x03, 1, 1], [0x04, 4, 2], [0x0d, 1, 1]]), // prettier-ignore
      },
    ],
    vm: {
      ...state.vm,
      clock: struct(0x30, [[0, 8, 12_345_678_901], [8, 4, 2 | 4], [0x10, 8, 1_700_000_000_000_000_000n]]), // prettier-ignore
      picMaster: struct(0x208, [[8 + 2, 1, 0xfb], [8 + 5, 1, 0x30], [8 + 3, 1, 0x10]]), // prettier-ignore
      picSlave: struct(0x208, [[8 + 2, 1, 0xff], [8 + 5, 1, 0x38], [8 + 14, 1, 0x0c]]), // prettier-ignore
      ioapic: ioApic(),
      pit: struct(0x70, [[0, 4, 65_536], [0x0d, 1, 2], [0x0f, 1, 1]]), // prettier-ignore
    },
    chips: { ...state.chips, acpiEvents: 6 },
    devices: [NET],
    memory: {
      regions: [{ address: 0, bytes: 64 * 2 ** 20 }],
      layers: [
        { file: 'memory-00', bytes: 64 * 2 ** 20, runs: undefined },
        { file: 'memory-01', bytes: 64 * 2 ** 20, runs: [[0, 8192], [65_536, 4096]] }, // prettier-ignore
      ],
    },
    vmGenId: { address: 0xe_ff00 },
  };
}
