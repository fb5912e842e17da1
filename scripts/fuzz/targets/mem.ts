/** Hotpluggable memory of a guest that plugs, unplugs and asks whatever it likes. */
import { guestAddress, MIB } from '../../../src/machine/address.ts';
import { describeMem, MemDevice } from '../../../src/virtio/mem/device.ts';
import { MEM_REQUEST, MEM_REQUEST_TYPE, MEM_RESPONSE } from '../../../src/virtio/mem/regs.ts';
import { placeMem } from '../../../src/virtio/mem/shape.ts';
import { createMemState, MEM_WORD } from '../../../src/virtio/mem/state.ts';
import { createTestClock } from '../../../test/unit/virtio/device-bench.ts';
import { seededRandom } from '../../../test/unit/support/random.ts';
import { RandomDriver } from '../random-driver.ts';
import { choicesOf, randomChoices, type FuzzTarget } from '../target.ts';

const BLOCKS = 64;
const BLOCK_MIB = 2;

export const memTarget: FuzzTarget = {
  name: 'mem',
  what: 'memory of a guest that plugs, unplugs and asks as it likes',
  seeds: () => randomChoices(seededRandom(17), 64, 160),
  run: (input) => {
    const choose = choicesOf(input);
    const clock = createTestClock();
    const shape = { blockMib: BLOCK_MIB, slotMib: 16, totalMib: BLOCKS * BLOCK_MIB, node: 0 };
    const placement = placeMem(shape, [{ address: guestAddress(0), bytes: MIB }]);
    const state = createMemState(placement);
    state.words[MEM_WORD.requestedMib] = BLOCK_MIB * choose(BLOCKS + 1);
    const mine = new Uint8Array(BLOCKS);
    let changes = 0;
    const change = (first: number, count: number, plugged: 0 | 1) => {
      if (first < 0 || count < 1 || first + count > BLOCKS)
        throw new Error(`blocks ${first} to ${first + count}`);
      if (plugged && mine.subarray(first, first + count).includes(1))
        throw new Error('a block is plugged twice');
      mine.fill(plugged, first, first + count);
      changes++;
    };
    const device = new MemDevice(placement, state, {
      plug: (first, count) => {
        if (choose(16) === 0) throw new Error('no slot is left');
        change(first, count, 1);
      },
      unplug: (first, count) => change(first, count, 0),
      after: clock.after,
    });
    const description = describeMem(placement, state.words[MEM_WORD.requestedMib]!);
    const driver = new RandomDriver(description, device, choose);
    for (let step = 0; step < 60; step++) {
      switch (choose(8)) {
        case 0:
          Atomics.store(state.words, MEM_WORD.requestedMib, BLOCK_MIB * choose(BLOCKS + 1));
          device.requestChanged();
          break;
        case 1:
          if (choose(8) === 0) driver.misbehave();
          else if (choose(10) === 0) driver.restart();
          else driver.notify(0);
          break;
        case 2:
          clock.advance(choose(10));
          break;
        default: {
          const bytes = new Uint8Array(MEM_REQUEST.size);
          const view = new DataView(bytes.buffer);
          const types = Object.values(MEM_REQUEST_TYPE);
          view.setUint16(
            MEM_REQUEST.type,
            choose(12) === 0 ? choose(0x1_0000) : types[choose(types.length)]!,
            true,
          );
          const block = choose(10) === 0 ? choose(2 ** 31) : choose(BLOCKS);
          const address = placement.address + block * BLOCK_MIB * MIB + (choose(10) === 0 ? choose(MIB) : 0);
          view.setBigUint64(MEM_REQUEST.address, BigInt(choose(20) === 0 ? choose(2 ** 31) : address), true);
          view.setUint16(MEM_REQUEST.blocks, choose(10) === 0 ? choose(0x1_0000) : choose(9), true);
          const request = driver.buffers(bytes.length, false);
          driver.put(request, bytes);
          driver.offer(0, [...request, ...driver.buffers(MEM_RESPONSE.size, true)]);
        }
      }
      driver.collect(0);
      driver.check();
      const plugged = state.blocks.reduce((sum, each) => sum + each, 0);
      if (!state.blocks.every((each, i) => each === mine[i]))
        throw new Error('blocks are not what was made of them');
      if (state.words[MEM_WORD.pluggedMib] !== plugged * BLOCK_MIB)
        throw new Error('the plugged size is wrong');
    }
    driver.stop();
    return `${driver.gaveUp} ${Math.min(changes, 8)} ${Math.min(4, driver.served)}`;
  },
};
