/** Controls the memory device from the main thread. */
import { signalEventFd } from '../../ffi/epoll.ts';
import type { KvmVm } from '../../kvm/vm.ts';
import { MIB } from '../../machine/address.ts';
import type { HotplugSlots } from '../../memory/hotplug-slots.ts';
import type { DeviceState } from '../transport/device-state.ts';
import { viewOf } from '../../binary/bytes.ts';
import { MEM_CONFIG } from './regs.ts';
import type { MemShape } from './shape.ts';
import { MEM_WORD, type MemState } from './state.ts';

export interface MemStatus extends MemShape {
  readonly requestedMib: number;
  readonly pluggedMib: number;
}

export class MemControl {
  readonly #shape: MemShape;
  readonly #state: MemState;
  readonly #wakeFd: number;

  constructor(shape: MemShape, state: MemState, wakeFd: number) {
    this.#shape = shape;
    this.#state = state;
    this.#wakeFd = wakeFd;
  }

  /** Asks the guest to have so much plugged; it does so as far and as fast as it can. */
  resize(mib: number): void {
    Atomics.store(this.#state.words, MEM_WORD.requestedMib, mib);
    signalEventFd(this.#wakeFd);
  }

  status(): MemStatus {
    const { blockMib, slotMib, totalMib } = this.#shape;
    const { words } = this.#state;
    return {
      ...{ blockMib, slotMib, totalMib },
      requestedMib: Atomics.load(words, MEM_WORD.requestedMib),
      pluggedMib: Atomics.load(words, MEM_WORD.pluggedMib),
    };
  }

  /** A machine starts without anything plugged, and asks for what the one before was asked for. */
  powerOn(state: DeviceState): void {
    const { blocks, words } = this.#state;
    blocks.fill(0);
    words[MEM_WORD.pluggedMib] = 0;
    const bytes = words[MEM_WORD.requestedMib]! * MIB;
    for (const copy of [0, state.config.length / 2]) {
      const view = viewOf(state.config.subarray(copy));
      view.setBigUint64(MEM_CONFIG.requestedSize, BigInt(bytes), true);
      view.setBigUint64(MEM_CONFIG.pluggedSize, 0n, true);
    }
  }

  /** A machine continues with the blocks that its saved state names, and KVM gets their slots. Throws SyscallError. */
  restore({ own, config }: DeviceState, vm: KvmVm, hotplug: HotplugSlots): void {
    const { blocks, words } = this.#state;
    const { blockMib, slotMib } = this.#shape;
    blocks.forEach((_, block) => (blocks[block] = (own[Math.floor(block / 32)]! >>> (block % 32)) & 1));
    words[MEM_WORD.pluggedMib] = blockMib * blocks.reduce((sum, each) => sum + each, 0);
    words[MEM_WORD.requestedMib] = Number(
      viewOf(config).getBigUint64(MEM_CONFIG.requestedSize, true) / BigInt(MIB),
    );
    const blocksOfSlot = slotMib / blockMib;
    hotplug.whileHeld(() => {
      for (let index = 0; index * blocksOfSlot < blocks.length; index++) {
        if (!blocks.subarray(index * blocksOfSlot, (index + 1) * blocksOfSlot).includes(1)) continue;
        const { slot, address, bytes, host } = hotplug.range(index);
        vm.setMemorySlot(slot, address, bytes, host);
        hotplug.note(index, true);
      }
    });
  }
}
