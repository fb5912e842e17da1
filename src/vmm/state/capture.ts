/** Reads the state of a machine whose vCPUs and devices are paused. */
import { UART_WORD } from '../../chips/uart.ts';
import { withAbsolutePaths } from '../../config/absolute-paths.ts';
import { savedMsr, withSavedMsr } from '../../kvm/saved-msrs.ts';
import { STATE_MSR } from '../../kvm/state-abi.ts';
import { readStateSupport, readTscOffset, VcpuReader } from '../../kvm/vcpu-state.ts';
import { readVm } from '../../kvm/vm-state.ts';
import { LAYOUT } from '../../machine/layout.ts';
import { VoltError } from '../../volt-error.ts';
import manifest from '../../../package.json' with { type: 'json' };
import { lockBus, unlockBus, VM_WORD, type SharedState } from '../bus/shared-state.ts';
import type { Machine } from '../machine.ts';
import { phaseOf } from '../vcpu/sample.ts';
import { isThreadless } from '../vcpu/threads.ts';
import type { Vcpu } from '../vcpu/vcpu.ts';
import type { MachineState, SavedVcpu } from './machine-state.ts';
import type { SavedLayer } from './memory-state.ts';

export interface CaptureOptions {
  /** 32 hexadecimal digits. */
  readonly id: string;
  /** Milliseconds since 1970. */
  readonly createdAt: number;
  /** Memory files, oldest first. */
  readonly layers: readonly SavedLayer[];
}

/**
 * The state of the machine, whose vCPUs and devices must be paused. Throws SyscallError for what KVM refuses,
 * and VoltError 'internal' when a vCPU is not paused.
 */
export function captureMachine(machine: Machine, { id, createdAt, layers }: CaptureOptions): MachineState {
  const { config, plan, vm, memory, devices, resources, vcpus, shared } = machine;
  vcpus.all.forEach(checkOut);
  // What the guest has printed belongs on the console of this machine, not of its copies.
  machine.console.flush();
  lockBus(shared.words);
  try {
    const pci = devices?.saveBus();
    return {
      id,
      createdAt,
      volt: manifest.version,
      config: withAbsolutePaths(devices?.currentInput(config.input) ?? config.input, resources.directory),
      cpus: config.cpus,
      boot: { protocol: plan.boot.protocol },
      vcpus: captureVcpus(machine),
      vm: { ...readVm(vm.fd), routing: 'default' },
      chips: captureChips(shared),
      ...(pci ? { pci: { words: [...pci.words], bridge: [...pci.bridge] } } : {}),
      devices: devices?.save() ?? [],
      memory: {
        regions: memory.regions.map(({ address, bytes }) => ({ address, bytes })),
        layers: [...layers],
      },
      ...(config.acpi ? { vmGenId: { address: LAYOUT.vmGenerationId.address } } : {}),
    };
  } finally {
    unlockBus(shared.words);
  }
}

/** Neither in the guest nor over: paused, or kept out of the guest until it is plugged. */
function checkOut({ index, words, ended }: Vcpu): void {
  const phase = phaseOf(words);
  if (phase === 'paused' || phase === 'created' || isParked({ words, ended })) return;
  if (phase === 'stopped')
    throw new VoltError('guest', 'Cannot save the guest: it has ended; start it again');
  throw new VoltError(
    'internal',
    `Cannot save vCPU ${index}: it is ${phase} (expected paused); pause the guest first`,
  );
}

/** One without a thread was parked when its machine was saved, or its thread could not be started. */
function isParked({ words, ended }: Pick<Vcpu, 'words' | 'ended'>): boolean {
  return phaseOf(words) === 'parked' || (ended && isThreadless(words));
}

function captureVcpus({ vcpus, resources }: Machine): SavedVcpu[] {
  const reader = new VcpuReader(readStateSupport(resources.kvm));
  const all = vcpus.all.map(({ index, kvm, words, ended }) => ({
    ...reader.read(kvm.fd),
    index,
    apicId: kvm.apicId,
    parked: isParked({ words, ended }),
  }));
  const offsets = vcpus.all.map(({ kvm }) => readTscOffset(kvm.fd));
  return alignTsc(all, offsets);
}

/**
 * Each TSC was read at another time: all get the value that they had when the first was read, by the difference
 * of their offsets from the host's. Where KVM does not tell offsets, the values stay as they are, and KVM takes
 * those that are close to each other for the same.
 */
function alignTsc(vcpus: readonly SavedVcpu[], offsets: readonly (bigint | undefined)[]): SavedVcpu[] {
  const [first] = offsets;
  const tsc = savedMsr(vcpus[0]!.msrs, STATE_MSR.ia32Tsc);
  if (first === undefined || tsc === undefined) return [...vcpus];
  return vcpus.map((vcpu, i) => {
    const value = BigInt.asUintN(64, tsc + (offsets[i] ?? first) - first);
    return { ...vcpu, msrs: withSavedMsr(vcpu.msrs, STATE_MSR.ia32Tsc, value) };
  });
}

function captureChips({ words, uart, i8042, cmos, imcr, textCursor, cpuHotplug, received }: SharedState) {
  const [head, tail] = [uart[UART_WORD.receiveHead]!, uart[UART_WORD.receiveTail]!];
  return {
    uart: [...uart],
    i8042: [...i8042],
    cmos: [...cmos],
    imcr: [...imcr],
    textCursor: [...textCursor],
    cpuHotplug: [...cpuHotplug],
    received: Uint8Array.from(
      { length: (head - tail) | 0 },
      (_, i) => received[(tail + i) & (received.length - 1)]!,
    ),
    acpiEvents: words[VM_WORD.acpiEvents]!,
  };
}
