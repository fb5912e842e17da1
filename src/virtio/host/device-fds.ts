/** Eventfds between a device, its driver and KVM. */
import { createEventFd } from '../../ffi/epoll.ts';
import type { KvmVm } from '../../kvm/vm.ts';
import { offsetAddress } from '../../machine/address.ts';
import { QUEUE_WORD, queueWord, type DeviceState } from '../transport/device-state.ts';
import { MMIO_REGISTER } from '../transport/mmio.regs.ts';
import type { SlotPlacement } from './placement.ts';

export interface DeviceFds {
  /** By queue: signalled when the driver notifies it. */
  readonly queueFds: readonly number[];
  /** By queue: whoever uses its buffers signals it for the driver. */
  readonly callFds: readonly number[];
  /** Raises the device's interrupt: an edge on MMIO, the pin on PCI. */
  readonly interruptFd: number;
  readonly pci?: {
    /** Sends the message of configuration changes. */
    readonly configFd: number;
    /** Signalled when the guest has handled the pin's interrupt, which KVM has deasserted. */
    readonly resampleFd: number;
  };
}

/** Creates those of an MMIO device and gives them to KVM. `owned` closes them. */
export function wireMmioDevice(
  vm: KvmVm,
  placement: SlotPlacement,
  state: DeviceState,
  owned: DisposableStack,
): DeviceFds {
  const interruptFd = owned.use(createEventFd()).fd;
  vm.addIrqFd(placement.gsi, interruptFd);
  const queueFds = Array.from({ length: state.queueCount }, (_, queue) => {
    const { fd } = owned.use(createEventFd());
    vm.addIoEventFd(offsetAddress(placement.address, MMIO_REGISTER.queueNotify), queue, fd);
    state.words[queueWord(queue, QUEUE_WORD.notifyFd)] = fd;
    return fd;
  });
  return { queueFds, callFds: queueFds.map(() => interruptFd), interruptFd };
}
