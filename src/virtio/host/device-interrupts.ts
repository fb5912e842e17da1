/** How a device worker raises interrupts: an edge on MMIO, the interrupt pin or messages (MSI-X) on PCI. */
import { EPOLL, signalEventFd, takeEventFd } from '../../ffi/epoll.ts';
import { DEVICE_WORD, QUEUE_WORD, queueWord, type DeviceState } from '../transport/device-state.ts';
import { INTERRUPT, STATUS } from '../transport/mmio.regs.ts';
import { CONFIG_CHANGE, type RunnerEffects } from '../transport/runner.ts';
import type { DeviceFds } from './device-fds.ts';
import type { EventSources } from './serve-device.ts';

const W = DEVICE_WORD;

type Interrupts = Required<Pick<RunnerEffects, 'interrupt' | 'sendMessage'>>;

export function createInterrupts(
  { words }: DeviceState,
  { interruptFd, callFds, pci }: DeviceFds,
): Interrupts {
  return {
    interrupt: () => {
      if (Atomics.load(words, W.pinDisabled) === 0) signalEventFd(interruptFd);
    },
    sendMessage: (queue) => {
      const vector = queue === CONFIG_CHANGE ? W.configVector : queueWord(queue, QUEUE_WORD.vector);
      // Without a vector there is no notification. (Virtual I/O Device 1.2 §4.1.5.1.2)
      if (Atomics.load(words, vector) === 0) return;
      signalEventFd(queue === CONFIG_CHANGE ? pci!.configFd : callFds[queue]!);
    },
  };
}

/** Keeps the pin asserted while the driver has not read the ISR status, and raises it for a back-end. */
export function watchInterrupts(
  { words }: DeviceState,
  { callFds, pci }: DeviceFds,
  events: EventSources,
  { interrupt }: Interrupts,
): void {
  if (!pci) return;
  const usesPin = () => Atomics.load(words, W.msixEnabled) === 0;
  events.watch(pci.resampleFd, EPOLL.in | EPOLL.edge, () => {
    if (usesPin() && Atomics.load(words, W.interruptStatus) !== 0) interrupt();
  });
  if (words[W.servedByBackend] === 0) return;
  for (const fd of callFds)
    events.watch(fd, EPOLL.in | EPOLL.edge, () => {
      // With MSI-X the eventfd is KVM's, and its counter the pending bit of a masked vector.
      if (!usesPin() || !takeEventFd(fd) || !(Atomics.load(words, W.status) & STATUS.driverOkBit)) return;
      Atomics.or(words, W.interruptStatus, INTERRUPT.usedBufferBit);
      interrupt();
    });
}
