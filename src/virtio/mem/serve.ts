/** Serves the memory device: KVM's slots, and memory that is given back to the host. */
import { EPOLL } from '../../ffi/epoll.ts';
import type { HostPointer } from '../../ffi/libc.ts';
import { MAP, mapMemory, PROT } from '../../ffi/mapping.ts';
import { releaseMemory, releaseSharedMemory } from '../../ffi/memory-advice.ts';
import { setVmMemorySlot } from '../../kvm/vm.ts';
import { MIB } from '../../machine/address.ts';
import { HotplugSlots } from '../../memory/hotplug-slots.ts';
import type { ServeContext } from '../host/serve-device.ts';
import type { VirtioDevice } from '../transport/device.ts';
import { MemDevice } from './device.ts';
import type { HotplugStart } from './hotplug-start.ts';
import type { MemPlacement } from './shape.ts';
import { viewMemState } from './state.ts';

export interface MemStart {
  readonly placement: MemPlacement;
  readonly buffer: SharedArrayBuffer;
  readonly wakeFd: number;
}

export function serveMem({ placement, buffer, wakeFd }: MemStart, context: ServeContext): VirtioDevice {
  const { events, hotplug, dirty } = context;
  const { vmFd, region, kind } = hotplug!;
  const slots = new HotplugSlots(region, hotplug!.buffer);
  const state = viewMemState(buffer, placement);
  const blockBytes = placement.blockMib * MIB;
  const blocksOfSlot = placement.slotMib / placement.blockMib;
  const slotsOf = (first: number, count: number) => {
    const from = Math.floor(first / blocksOfSlot);
    const to = Math.floor((first + count - 1) / blocksOfSlot);
    return Array.from({ length: to - from + 1 }, (_, i) => from + i);
  };
  const release = (first: number, count: number) => {
    const offset = first * blockBytes;
    releaseBlocks(kind, (region.host + offset) as HostPointer, count * blockBytes);
    // A snapshot of what has changed must have the zeroes.
    if (dirty.isTracking) dirty.mark(region.offset + offset, count * blockBytes);
  };
  const setSlot = (index: number, present: boolean) => {
    const { slot, address, bytes, host } = slots.range(index);
    // The tracker starts before it goes through the slots, which it holds.
    const logDirtyPages = present && dirty.isTracking;
    setVmMemorySlot(vmFd, { slot, guest: address, bytes: present ? bytes : 0, host, logDirtyPages });
    slots.note(index, present);
  };
  const device = new MemDevice(placement, state, {
    plug(first, count) {
      release(first, count);
      slots.whileHeld(() => {
        for (const index of slotsOf(first, count)) if (!slots.isPresent(index)) setSlot(index, true);
      });
    },
    unplug(first, count) {
      slots.whileHeld(() => {
        for (const index of slotsOf(first, count)) {
          const blocks = state.blocks.subarray(index * blocksOfSlot, (index + 1) * blocksOfSlot);
          if (slots.isPresent(index) && !blocks.includes(1)) setSlot(index, false);
        }
      });
      release(first, count);
    },
    after: (delayMs, handler) => events.after(delayMs, handler),
  });
  events.watch(wakeFd, EPOLL.in | EPOLL.edge, () => device.requestChanged());
  return device;
}

/**
 * The memory then reads as zeroes. Private memory may be a mapping of a snapshot's files, whose content MADV_DONTNEED
 * would bring back.
 */
function releaseBlocks(kind: HotplugStart['kind'], host: HostPointer, bytes: number): void {
  if (kind === 'shared') return releaseSharedMemory(host, bytes);
  if (kind === 'hugepages') return releaseMemory(host, bytes);
  // SAFETY: the range lies in the region of hotpluggable memory, which GuestMemory owns and unmaps.
  mapMemory({
    bytes,
    prot: PROT.read | PROT.write,
    flags: MAP.private | MAP.anonymous | MAP.noReserve | MAP.fixed,
    at: host,
    what: 'guest RAM',
  });
}
