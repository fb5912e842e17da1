/** A balloon in a machine whose RAM another process has mapped too. */
import { expect, setDefaultTimeout, test } from 'bun:test';
import { fstatSync } from 'node:fs';
import { describeBalloon } from '../../../../src/virtio/balloon/device.ts';
import { createEventFd } from '../../../../src/ffi/epoll.ts';
import { arrayBufferAt } from '../../../../src/ffi/libc.ts';
import { guestAddress } from '../../../../src/machine/address.ts';
import { GuestMemory } from '../../../../src/memory/guest-memory.ts';
import { createBalloonState } from '../../../../src/virtio/balloon/state.ts';
import { EventLoop } from '../../../../src/virtio/host/event-loop.ts';
import { chooseRelease, serveBalloon } from '../../../../src/virtio/balloon/serve.ts';
import { createDeviceBench } from '../device-bench.ts';
import { createServeContext } from '../serve-context.ts';
import { ramAt } from '../test-ram.ts';

setDefaultTimeout(60_000);

const PAGE = 4096;
const RAM_BYTES = 8 * 2 ** 20;
/** A whole huge page, in case the host has those for shared memory: of a part of one it may give back nothing. */
const PAGES = 512;

test('gives back the pages themselves, not only its own view of them', () => {
  using memory = new GuestMemory([{ address: guestAddress(0), bytes: RAM_BYTES }], { shared: true });
  using events = new EventLoop();
  using wake = createEventFd();
  const [region] = memory.regions;
  const bytes = new Uint8Array(arrayBufferAt(region!.host, RAM_BYTES));
  const options = { pages: PAGES, deflateOnOom: false, statsSeconds: 0 };
  const start = {
    buffer: createBalloonState(PAGES).buffer,
    wakeFd: wake.fd,
    statsSeconds: 0,
  } as const;
  const device = serveBalloon(start, createServeContext(events, { ram: [region!] }));
  const bench = createDeviceBench(describeBalloon(options), device, [], {
    memory: ramAt(bytes, region!.host),
  });
  bytes.fill(7);
  const [inflate] = bench.start();
  const before = fstatSync(region!.fd!).blocks;

  for (let i = 0; i < PAGES; i++)
    bench.view.setUint32(bench.buffers + 4 * i, RAM_BYTES / PAGE - PAGES + i, true);
  inflate!.offer([{ address: bench.buffers, length: 4 * PAGES }]);

  expect(before - fstatSync(region!.fd!).blocks).toBe((PAGES * PAGE) / 512);
  expect([bytes[RAM_BYTES - 1], bytes[RAM_BYTES - PAGES * PAGE - 1]]).toEqual([0, 7]);
});

test('takes nothing from persistent memory, which its driver sees beside RAM', () => {
  const places = [0, RAM_BYTES].map((address) => ({ address: guestAddress(address), bytes: RAM_BYTES }));
  using memory = new GuestMemory(places, { shared: true });
  const [ram, file] = memory.regions;
  const release = chooseRelease([ram!, { ...file!, fd: undefined }]);
  const contents = [ram!, file!].map(({ host }) => new Uint8Array(arrayBufferAt(host, RAM_BYTES)).fill(7));

  for (const { host } of [ram!, file!]) release(host, RAM_BYTES);
  release(file!.host - PAGE, 2 * PAGE);

  expect(contents.map((bytes) => bytes[0])).toEqual([0, 7]);
  expect(contents.map((bytes) => bytes.every((byte) => byte === bytes[0]))).toEqual([true, true]);
});
