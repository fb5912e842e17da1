/**
 * Reads and writes the state of a VM besides its vCPUs: clock, interrupt controllers, PIT. (api.rst, VM ioctls)
 *
 * SAFETY: KVM reads and writes each ioctl's argument, which is local, only during the call.
 */
import { viewOf } from '../binary/bytes.ts';
import { ERRNO, SyscallError } from '../ffi/errno.ts';
import { checked, lastErrno, libc } from '../ffi/libc.ts';
import { IOCTL, PIT_STATE } from './abi.ts';
import { startPit } from './pit.ts';
import { CLOCK_DATA, CLOCK_FLAG, IRQCHIP, IRQCHIP_ID, STATE_IOCTL } from './state-abi.ts';

export interface VmRegisters {
  readonly clock: Uint8Array;
  readonly picMaster: Uint8Array;
  readonly picSlave: Uint8Array;
  readonly ioapic: Uint8Array;
  readonly pit?: Uint8Array | undefined;
}

/** No vCPU may run. Throws SyscallError. */
export function readVm(vmFd: number): VmRegisters {
  const clock = new Uint8Array(CLOCK_DATA.size);
  checked(libc.ioctl(vmFd, STATE_IOCTL.getClock, clock), 'KVM_GET_CLOCK');
  const pit = readPit(vmFd);
  return {
    clock,
    picMaster: readChip(vmFd, IRQCHIP_ID.picMaster),
    picSlave: readChip(vmFd, IRQCHIP_ID.picSlave),
    ioapic: readChip(vmFd, IRQCHIP_ID.ioapic),
    ...(pit ? { pit } : {}),
  };
}

function readChip(vmFd: number, id: number): Uint8Array {
  const chip = new Uint8Array(IRQCHIP.size);
  viewOf(chip).setUint32(IRQCHIP.chipId, id, true);
  checked(libc.ioctl(vmFd, STATE_IOCTL.getIrqchip, chip), 'KVM_GET_IRQCHIP');
  return chip;
}

/** undefined: the VM has no PIT yet. */
function readPit(vmFd: number): Uint8Array | undefined {
  const pit = new Uint8Array(PIT_STATE.size);
  if (libc.ioctl(vmFd, IOCTL.getPitState, pit) >= 0) return pit;
  const errno = lastErrno();
  if (errno === ERRNO.ENXIO) return undefined;
  throw new SyscallError('KVM_GET_PIT2', errno);
}

/**
 * Writes the interrupt controllers and the PIT. After the vCPUs' local APICs, to which the I/O APIC sends the
 * interrupts that it has pending. Throws SyscallError.
 */
export function writeChips(vmFd: number, { picMaster, picSlave, ioapic, pit }: VmRegisters): void {
  if (pit) {
    startPit(vmFd, undefined);
    checked(libc.ioctl(vmFd, IOCTL.setPitState, pit), 'KVM_SET_PIT2');
  }
  const chips = [
    [IRQCHIP_ID.picMaster, picMaster],
    [IRQCHIP_ID.picSlave, picSlave],
    [IRQCHIP_ID.ioapic, ioapic],
  ] as const;
  for (const [id, saved] of chips) {
    const chip = saved.slice();
    viewOf(chip).setUint32(IRQCHIP.chipId, id, true);
    checked(libc.ioctl(vmFd, STATE_IOCTL.setIrqchip, chip), 'KVM_SET_IRQCHIP');
  }
}

/** KVM_SET_CLOCK: kvmclock goes on at `nanoseconds`. Throws SyscallError. */
export function writeClock(vmFd: number, nanoseconds: bigint): void {
  const data = new Uint8Array(CLOCK_DATA.size);
  viewOf(data).setBigUint64(CLOCK_DATA.clock, nanoseconds, true);
  checked(libc.ioctl(vmFd, STATE_IOCTL.setClock, data), 'KVM_SET_CLOCK');
}

/** kvmclock in a saved clock. */
export function savedClock(clock: Uint8Array): bigint {
  return viewOf(clock).getBigUint64(CLOCK_DATA.clock, true);
}

/** Nanoseconds since 1970 at which a clock was read; undefined: KVM did not say. */
export function savedRealTime(clock: Uint8Array): bigint | undefined {
  const view = viewOf(clock);
  const known = (view.getUint32(CLOCK_DATA.flags, true) & CLOCK_FLAG.realtime) !== 0;
  return known ? view.getBigUint64(CLOCK_DATA.realtime, true) : undefined;
}
