/**
 * Decodes the interrupt controllers and timers of a saved machine: local APICs, I/O APIC, PICs, PIT. Pure.
 *
 * Sources: Intel SDM 3A chapter 11; Intel 82093AA, 8259A and 8254 datasheets; Linux
 * arch/x86/include/uapi/asm/kvm.h. Offsets are those of KVM's structures.
 */
import { bitsOf } from '../../binary/bits.ts';
import { viewOf } from '../../binary/bytes.ts';
import { LAPIC, PIT_CHANNEL, PIT_STATE } from '../../kvm/abi.ts';
import { IRQCHIP } from '../../kvm/state-abi.ts';

/** Registers of a local APIC, offsets in its page. (SDM 3A table 11-1) */
const APIC = {
  version: 0x30,
  taskPriority: 0x80,
  processorPriority: 0xa0,
  logicalDestination: 0xd0,
  destinationFormat: 0xe0,
  spurious: 0xf0,
  inService: 0x100,
  interruptRequest: 0x200,
  errorStatus: 0x280,
  command: 0x300,
  commandHigh: 0x310,
  lvtTimer: 0x320,
  lvtThermal: 0x330,
  lvtPerformance: 0x340,
  lvtError: 0x370,
  initialCount: 0x380,
  currentCount: 0x390,
  divide: 0x3e0,
} as const;
/** Of 256 bits, 32 in every 16 bytes. */
const VECTOR_REGISTERS = 8;
const REGISTER_STRIDE = 0x10;

/** IA32_APIC_BASE (SDM 3A figure 11-5) */
const APIC_BASE = { bspBit: 8, x2apicBit: 10, enableBit: 11 } as const;

const DELIVERY_MODES = ['fixed', 'lowest', 'SMI', 'mode 3', 'NMI', 'INIT', 'SIPI', 'ExtINT'] as const;
const TIMER_MODES = ['one-shot', 'periodic', 'TSC-deadline', 'timer mode 3'] as const;
/** DCR bits 3, 1 and 0. (SDM 3A figure 11-10) */
const DIVISORS = [2, 4, 8, 16, 32, 64, 128, 1] as const;

/**
 * In xAPIC mode the id is in bits 31–24 of its register. In x2APIC mode it is the whole register, but KVM gives it
 * in bits 31–24 then too unless KVM_CAP_X2APIC_API asks for ids of 32 bits. (SDM 3A figure 11-6; api.rst,
 * KVM_GET_LAPIC)
 */
const LOW_ID = 0xff_ffff;

export interface LvtDescription {
  readonly vector: number;
  readonly mode: string;
  readonly masked: boolean;
}

export interface LapicDescription {
  readonly mode: 'xAPIC' | 'x2APIC' | 'disabled';
  readonly bsp: boolean;
  readonly id: number;
  readonly version: number;
  /** TPR and PPR. */
  readonly taskPriority: number;
  readonly processorPriority: number;
  readonly softwareEnabled: boolean;
  readonly spuriousVector: number;
  readonly logicalDestination: number;
  readonly errorStatus: number;
  /** Vectors of interrupts that are being served, and of those that wait. */
  readonly inService: readonly number[];
  readonly requested: readonly number[];
  readonly lvt: Readonly<
    Record<'timer' | 'thermal' | 'performance' | 'lint0' | 'lint1' | 'error', LvtDescription>
  >;
  readonly timer: {
    readonly mode: string;
    readonly initialCount: number;
    readonly currentCount: number;
    readonly divisor: number;
  };
}

/** `page` is a `struct kvm_lapic_state`. */
export function describeLapic(page: Uint8Array, apicBase: bigint): LapicDescription {
  const view = viewOf(page);
  const read = (at: number) => view.getUint32(at, true);
  const baseBit = (number: number) => ((apicBase >> BigInt(number)) & 1n) !== 0n;
  const x2apic = baseBit(APIC_BASE.x2apicBit);
  const lvt = (at: number) => describeLvt(read(at));
  const timer = read(APIC.lvtTimer);
  const divide = read(APIC.divide);
  const id = read(LAPIC.id);
  return {
    mode: baseBit(APIC_BASE.enableBit) ? (x2apic ? 'x2APIC' : 'xAPIC') : 'disabled',
    bsp: baseBit(APIC_BASE.bspBit),
    id: x2apic && (id & LOW_ID) !== 0 ? id : id >>> 24,
    version: bitsOf(read(APIC.version), 7, 0),
    taskPriority: bitsOf(read(APIC.taskPriority), 7, 0),
    processorPriority: bitsOf(read(APIC.processorPriority), 7, 0),
    softwareEnabled: bitsOf(read(APIC.spurious), 8, 8) === 1,
    spuriousVector: bitsOf(read(APIC.spurious), 7, 0),
    logicalDestination: read(APIC.logicalDestination),
    errorStatus: read(APIC.errorStatus),
    inService: vectorsIn(view, APIC.inService),
    requested: vectorsIn(view, APIC.interruptRequest),
    lvt: {
      timer: lvt(APIC.lvtTimer),
      thermal: lvt(APIC.lvtThermal),
      performance: lvt(APIC.lvtPerformance),
      lint0: lvt(LAPIC.lvtLint0),
      lint1: lvt(LAPIC.lvtLint1),
      error: lvt(APIC.lvtError),
    },
    timer: {
      mode: TIMER_MODES[bitsOf(timer, 18, 17)]!,
      initialCount: read(APIC.initialCount),
      currentCount: read(APIC.currentCount),
      divisor: DIVISORS[(bitsOf(divide, 3, 3) << 2) | bitsOf(divide, 1, 0)]!,
    },
  };
}

/** (SDM 3A figure 11-8) */
function describeLvt(entry: number): LvtDescription {
  return {
    vector: bitsOf(entry, 7, 0),
    mode: DELIVERY_MODES[bitsOf(entry, 10, 8)]!,
    masked: bitsOf(entry, 16, 16) === 1,
  };
}

function vectorsIn(view: DataView, start: number): number[] {
  const vectors: number[] = [];
  for (let i = 0; i < VECTOR_REGISTERS; i++) {
    const bits = view.getUint32(start + i * REGISTER_STRIDE, true);
    for (let bit = 0; bit < 32; bit++) if (((bits >>> bit) & 1) !== 0) vectors.push(32 * i + bit);
  }
  return vectors;
}

/** `struct kvm_ioapic_state` */
const IOAPIC = { id: 0x0c, irr: 0x10, redirections: 0x18 } as const;
const PINS = 24;

export interface RoutingEntry {
  readonly pin: number;
  readonly vector: number;
  readonly mode: string;
  readonly destination: number;
  readonly destinationMode: 'physical' | 'logical';
  readonly trigger: 'edge' | 'level';
  readonly polarity: 'high' | 'low';
  readonly masked: boolean;
  /** A level interrupt that a CPU has accepted and not yet ended. */
  readonly remoteIrr: boolean;
}

export interface IoApicDescription {
  readonly id: number;
  /** Pins whose interrupt waits to be delivered. */
  readonly requested: readonly number[];
  readonly entries: readonly RoutingEntry[];
}

/** `chip` is a `struct kvm_irqchip`. */
export function describeIoApic(chip: Uint8Array): IoApicDescription {
  const view = viewOf(chip.subarray(IRQCHIP.chip));
  const entries = Array.from({ length: PINS }, (_, pin): RoutingEntry => {
    const low = view.getUint32(IOAPIC.redirections + 8 * pin, true);
    const high = view.getUint32(IOAPIC.redirections + 8 * pin + 4, true);
    const isSet = (number: number) => bitsOf(low, number, number) === 1;
    return {
      pin,
      vector: bitsOf(low, 7, 0),
      mode: DELIVERY_MODES[bitsOf(low, 10, 8)]!,
      destination: bitsOf(high, 31, 24),
      destinationMode: isSet(11) ? 'logical' : 'physical',
      trigger: isSet(15) ? 'level' : 'edge',
      polarity: isSet(13) ? 'low' : 'high',
      masked: isSet(16),
      remoteIrr: isSet(14),
    };
  });
  return {
    id: bitsOf(view.getUint32(IOAPIC.id, true), 3, 0),
    requested: bitNumbers(view.getUint32(IOAPIC.irr, true)),
    entries,
  };
}

/** `struct kvm_pic_state`: bytes. */
const PIC = {
  request: 1,
  mask: 2,
  inService: 3,
  vectorBase: 5,
  initState: 9,
  autoEoi: 10,
  elcr: 14,
} as const;

export interface PicDescription {
  /** Vector of its first input. */
  readonly vectorBase: number;
  readonly masked: readonly number[];
  readonly requested: readonly number[];
  readonly inService: readonly number[];
  readonly autoEoi: boolean;
  /** Inputs that are level-triggered. */
  readonly level: readonly number[];
}

/** `chip` is a `struct kvm_irqchip`. */
export function describePic(chip: Uint8Array): PicDescription {
  const at = (offset: number) => chip[IRQCHIP.chip + offset]!;
  return {
    vectorBase: at(PIC.vectorBase),
    masked: bitNumbers(at(PIC.mask)),
    requested: bitNumbers(at(PIC.request)),
    inService: bitNumbers(at(PIC.inService)),
    autoEoi: at(PIC.autoEoi) !== 0,
    level: bitNumbers(at(PIC.elcr)),
  };
}

/** Numbers of the bits that are set. */
function bitNumbers(bits: number): number[] {
  return Array.from({ length: 32 }, (_, i) => i).filter((i) => ((bits >>> i) & 1) !== 0);
}

const PIT_CHANNELS = 3;

export interface PitChannelDescription {
  readonly mode: number;
  /** Its reload value; 0 counts as 65536. */
  readonly count: number;
  readonly bcd: boolean;
  readonly gate: boolean;
}

/** `state` is a `struct kvm_pit_state2`. */
export function describePit(state: Uint8Array): PitChannelDescription[] {
  const view = viewOf(state);
  return Array.from({ length: PIT_CHANNELS }, (_, i) => {
    const at = PIT_STATE.channels + i * PIT_CHANNEL.size;
    return {
      mode: view.getUint8(at + PIT_CHANNEL.mode),
      count: view.getUint32(at + PIT_CHANNEL.count, true),
      bcd: view.getUint8(at + PIT_CHANNEL.bcd) !== 0,
      gate: view.getUint8(at + PIT_CHANNEL.gate) !== 0,
    };
  });
}
