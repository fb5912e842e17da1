/** A state of a machine with made-up contents, for tests of what reads and writes states. */
import { saveDevice } from '../../../../src/virtio/host/save-device.ts';
import type { SavedDevice } from '../../../../src/virtio/host/saved-device.ts';
import { describeNet } from '../../../../src/virtio/net/device.ts';
import { createDeviceState, DEVICE_WORD } from '../../../../src/virtio/transport/device-state.ts';
import { CMOS_WORD } from '../../../../src/chips/cmos.ts';
import { cpuHotplugWords } from '../../../../src/chips/cpu-hotplug.ts';
import { I8042_WORD } from '../../../../src/chips/i8042.ts';
import { IMCR_WORD } from '../../../../src/chips/imcr.ts';
import { TEXT_CURSOR_WORD } from '../../../../src/chips/text-cursor.ts';
import { UART_WORD } from '../../../../src/chips/uart.ts';
import {
  CPUID2,
  CPUID_ENTRY,
  LAPIC,
  MSR_ENTRY,
  PIT_STATE,
  REGS,
  VCPU_EVENTS,
} from '../../../../src/kvm/abi.ts';
import { CLOCK_DATA, DEBUG_REGS, IRQCHIP, SREGS2, XCRS, XSAVE_BYTES } from '../../../../src/kvm/state-abi.ts';
import { encodeState, type MachineState, type SavedVcpu } from '../../../../src/vmm/state/machine-state.ts';

/** `length` bytes that differ from their neighbours, and from those of another `seed`. */
function pattern(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 7) & 0xff);
}

function sampleVcpu(index: number): SavedVcpu {
  return {
    index,
    apicId: index,
    parked: false,
    mpState: 0,
    cpuid: pattern(CPUID2.size + 2 * CPUID_ENTRY.size, index),
    regs: pattern(REGS.size, index + 1),
    sregs: pattern(SREGS2.size, index + 2),
    xsave: pattern(XSAVE_BYTES, index + 3),
    xcrs: pattern(XCRS.size, index + 4),
    debugRegs: pattern(DEBUG_REGS.size, index + 5),
    lapic: pattern(LAPIC.size, index + 6),
    msrs: pattern(3 * MSR_ENTRY.size, index + 7),
    events: pattern(VCPU_EVENTS.size, index + 8),
    tscKhz: 2_300_000,
  };
}

export function sampleState(cpus = 2): MachineState {
  const uart = Array<number>(UART_WORD.size).fill(0);
  uart[UART_WORD.receiveHead] = 12;
  uart[UART_WORD.receiveTail] = 9;
  return {
    id: '00112233445566778899aabbccddeeff',
    createdAt: 1_700_000_000_000,
    volt: '1.0.0',
    config: { 'machine-config': { vcpu_count: cpus, mem_size_mib: 64 } },
    cpus,
    boot: { protocol: 'pvh' },
    vcpus: Array.from({ length: cpus }, (_, index) => sampleVcpu(index)),
    vm: {
      clock: pattern(CLOCK_DATA.size, 1),
      picMaster: pattern(IRQCHIP.size, 2),
      picSlave: pattern(IRQCHIP.size, 3),
      ioapic: pattern(IRQCHIP.size, 4),
      pit: pattern(PIT_STATE.size, 5),
      routing: 'default',
    },
    chips: {
      uart,
      i8042: Array<number>(I8042_WORD.size).fill(1),
      cmos: Array<number>(CMOS_WORD.size).fill(2),
      imcr: Array<number>(IMCR_WORD.size).fill(3),
      textCursor: Array<number>(TEXT_CURSOR_WORD.size).fill(4),
      cpuHotplug: Array<number>(cpuHotplugWords(cpus)).fill(-1),
      received: Uint8Array.of(1, 2, 3),
      acpiEvents: 2,
    },
    devices: [sampleDevice()],
    memory: {
      regions: [{ address: 0, bytes: 64 * 2 ** 20 }],
      layers: [{ file: 'memory-00112233445566778899aabbccddeeff', bytes: 64 * 2 ** 20, runs: undefined }],
    },
  };
}

/** A network device whose driver runs. */
function sampleDevice(): SavedDevice {
  const description = describeNet({ mac: undefined, pairs: 1, mtu: undefined, offloads: true });
  const state = createDeviceState(description);
  state.words[DEVICE_WORD.active] = 1;
  return saveDevice({ config: { kind: 'net', id: 'net0' }, description, state, failure: undefined }, 0);
}

/** A state file's document as a forger sees it. */
export interface ForgedState {
  id: unknown;
  vcpus: Record<string, unknown>[];
  boot: { protocol: unknown };
  vm: { routing: unknown };
  chips: { uart: unknown[]; cpuHotplug: unknown[] };
  devices: { queues: Record<string, unknown>[] }[];
  memory: { layers: { file: unknown }[] };
}

/** A state file with any document in it, with the right checksum: as a forger would make it. */
export function forgeState(change: (document: ForgedState) => void): Uint8Array {
  const text = Buffer.from(encodeState(sampleState())).toString();
  const document = JSON.parse(text.slice(text.indexOf('\n') + 1)) as ForgedState;
  change(document);
  return signState(JSON.stringify(document));
}

export function signState(json: string): Uint8Array {
  const checksum = new Bun.CryptoHasher('sha256').update(json).digest('hex');
  return new Uint8Array(Buffer.from(`VOLT-SNAPSHOT 2 ${checksum}\n${json}`));
}
