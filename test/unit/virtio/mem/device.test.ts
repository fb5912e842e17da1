/** Memory that a driver plugs and unplugs. */
import { describe, expect, test } from 'bun:test';
import { GIB, guestAddress, MIB } from '../../../../src/machine/address.ts';
import { describeMem, MemDevice } from '../../../../src/virtio/mem/device.ts';
import {
  MEM_CONFIG,
  MEM_REQUEST_TYPE as TYPE,
  MEM_RESPONSE_TYPE as RESPONSE,
  MEM_STATE,
} from '../../../../src/virtio/mem/regs.ts';
import { hotplugRange, placeMem } from '../../../../src/virtio/mem/shape.ts';
import { createMemState, MEM_WORD } from '../../../../src/virtio/mem/state.ts';
import { MMIO_REGISTER as R } from '../../../../src/virtio/transport/mmio.regs.ts';
import { createDeviceBench, createTestClock } from '../device-bench.ts';

const BLOCK = 2 * MIB;
const REQUEST = 0x2_0000;
const ANSWER = 0x2_1000;

/** 16 blocks in two slots, of which the guest is asked for `requestedMib`. */
function createBench(requestedMib: number) {
  const ranges = [{ address: guestAddress(0), bytes: 64 * MIB }];
  const placement = placeMem({ blockMib: 2, slotMib: 16, totalMib: 32, node: 3 }, ranges);
  const state = createMemState(placement);
  state.words[MEM_WORD.requestedMib] = requestedMib;
  const calls: string[] = [];
  const room = { left: true };
  const device = new MemDevice(placement, state, {
    plug(first, count) {
      if (!room.left) throw new Error('no slot');
      calls.push(`plug ${first} ${count}`);
    },
    unplug: (first, count) => void calls.push(`unplug ${first} ${count}`),
    after: createTestClock().after,
  });
  const bench = createDeviceBench(describeMem(placement, requestedMib), device, []);
  const [queue] = bench.start();
  const ask = (type: number, block = 0, blocks = 1, offset = 0) => {
    bench.bytes.fill(0xee, ANSWER, ANSWER + 10);
    bench.view.setUint16(REQUEST, type, true);
    const address = placement.address + block * BLOCK + offset;
    bench.view.setBigUint64(REQUEST + 8, BigInt(address), true);
    bench.view.setUint16(REQUEST + 16, blocks, true);
    queue!.offer([
      { address: REQUEST, length: 24 },
      { address: ANSWER, length: 10, writable: true },
    ]);
    const used = queue!.takeUsed();
    return [bench.view.getUint16(ANSWER, true), bench.view.getUint16(ANSWER + 8, true), used?.written];
  };
  const config = (at: number) => bench.read(R.config + at) + bench.read(R.config + at + 4) * 2 ** 32;
  return { ask, bench, calls, config, device, placement, room, state };
}

describe('hotpluggable memory', () => {
  test('lies behind all RAM, on a GiB boundary', () => {
    const { placement, config } = createBench(8);

    expect(hotplugRange(placement)).toEqual({ address: guestAddress(4 * GIB), bytes: 32 * MIB });
    expect(config(MEM_CONFIG.address)).toBe(4 * GIB);
    expect([config(MEM_CONFIG.blockSize), config(MEM_CONFIG.regionSize)]).toEqual([BLOCK, 32 * MIB]);
    expect([config(MEM_CONFIG.requestedSize), config(MEM_CONFIG.pluggedSize)]).toEqual([8 * MIB, 0]);
  });

  test('is plugged and unplugged by blocks, as far as it is requested', () => {
    const { ask, calls, config } = createBench(8);

    const answers = [
      ask(TYPE.plug, 2, 3),
      ask(TYPE.state, 2, 3),
      ask(TYPE.state, 1, 2),
      ask(TYPE.state, 0, 2),
      ask(TYPE.plug, 10, 2),
      ask(TYPE.unplug, 3),
      ask(TYPE.plug, 10, 2),
    ];

    expect(answers.map(([type]) => type)).toEqual([
      ...[RESPONSE.ack, RESPONSE.ack, RESPONSE.ack, RESPONSE.ack],
      ...[RESPONSE.nack, RESPONSE.ack, RESPONSE.ack],
    ]);
    expect(answers.slice(1, 4).map(([, state]) => state)).toEqual([
      MEM_STATE.plugged,
      MEM_STATE.mixed,
      MEM_STATE.unplugged,
    ]);
    expect(calls).toEqual(['plug 2 3', 'unplug 3 1', 'plug 10 2']);
    expect(config(MEM_CONFIG.pluggedSize)).toBe(4 * BLOCK);
  });

  test('is unplugged as a whole', () => {
    const { ask, calls, config, state } = createBench(32);
    ask(TYPE.plug, 0, 16);

    const [answer] = ask(TYPE.unplugAll, 0, 0);

    expect(answer).toBe(RESPONSE.ack);
    expect(calls).toEqual(['plug 0 16', 'unplug 0 16']);
    expect([config(MEM_CONFIG.pluggedSize), state.blocks.includes(1)]).toEqual([0, false]);
  });

  test.each([
    ['plugs a block twice', TYPE.plug, 0, 2, 0],
    ['unplugs what is not plugged', TYPE.unplug, 1, 1, 0],
    ['names no block', TYPE.plug, 4, 0, 0],
    ['goes over the end', TYPE.plug, 15, 2, 0],
    ['starts before the region', TYPE.plug, -1, 1, 0],
    ['starts inside a block', TYPE.plug, 4, 1, 4096],
    ['is far behind the region', TYPE.state, 2 ** 30, 1, 0],
    ['has a type that nobody knows', 9, 4, 1, 0],
  ])('answers an error to a request that %s', (_what, type, block, blocks, offset) => {
    const { ask, calls } = createBench(32);
    ask(TYPE.plug, 0);

    const [answer, , written] = ask(type, block, blocks, offset);

    expect([answer, written]).toEqual([RESPONSE.error, 10]);
    expect(calls).toEqual(['plug 0 1']);
  });

  test('is busy where the host has no room', () => {
    const { ask, room, config } = createBench(32);
    room.left = false;

    const [answer] = ask(TYPE.plug, 0);

    expect([answer, config(MEM_CONFIG.pluggedSize)]).toEqual([RESPONSE.busy, 0]);
  });

  test('tells the driver another size that is wanted', () => {
    const { device, state, config, bench } = createBench(8);
    const before = bench.read(R.configGeneration);
    state.words[MEM_WORD.requestedMib] = 16;

    device.requestChanged();

    expect(config(MEM_CONFIG.requestedSize)).toBe(16 * MIB);
    expect(bench.read(R.configGeneration)).not.toBe(before);
  });

  test('needs room for a response', () => {
    const { bench } = createBench(8);
    const [queue] = bench.start();

    queue!.offer([
      { address: REQUEST, length: 24 },
      { address: ANSWER, length: 9, writable: true },
    ]);

    expect(bench.needsReset()).toBe(true);
    expect(bench.failures).toEqual(['a request has no room for its response of 10 bytes']);
  });
});
