/** Hands the packet queues of a network device to the kernel. */
import { EPOLL } from '../../../ffi/epoll.ts';
import { arrayBufferAt, type HostPointer } from '../../../ffi/libc.ts';
import { setVhostFeatures, setVhostMemory, startVhostRing, stopVhostRing } from '../../../ffi/vhost.ts';
import type { ServeContext } from '../../host/serve-device.ts';
import type { DeviceContext, VirtioDevice } from '../../transport/device.ts';
import { AVAIL, DESCRIPTOR, USED } from '../../transport/queue.regs.ts';
import { LOG_ALL_BIT } from '../../vhost-user/regs.ts';
import { markLoggedPages } from '../../vhost-user/write-log.ts';
import { VhostNetDevice, type RingToServe } from './device.ts';
import { lockWord, unlockWord, VHOST_WORD, type VhostStart } from './start.ts';

const LOG_ALL_MASK = 1 << LOG_ALL_BIT;
const W = VHOST_WORD;

/** `net` serves the control queue; `tapFds` has the tap's descriptor for each pair. */
export function serveVhostNet(
  start: VhostStart,
  tapFds: readonly number[],
  net: VirtioDevice,
  { events, ram, queueFds, callFds }: ServeContext,
): VhostNetDevice {
  const words = new Int32Array(start.words);
  const log = new Uint8Array(arrayBufferAt(start.log.host as HostPointer, start.log.bytes));
  const device: VhostNetDevice = new VhostNetDevice(net, tapFds.length, {
    start([low, high], rings) {
      const features = [low & start.features[0], high & start.features[1]] as const;
      lockWord(words);
      try {
        words[W.featuresLow] = features[0];
        words[W.featuresHigh] = features[1];
        words[W.runs] = 1;
        const logged = words[W.tracks] ? LOG_ALL_MASK : 0;
        for (const fd of start.fds) setVhostFeatures(fd, [(features[0] | logged) >>> 0, features[1] >>> 0]);
      } finally {
        unlockWord(words);
      }
      for (const fd of start.fds) setVhostMemory(fd, ram);
      for (const ring of rings) startRing(ring);
    },
    stop: (queues) => queues.map((queue) => stopVhostRing(start.fds[pairOf(queue)]!, queue % 2)),
    watchNotifications(queue, on) {
      const fd = queueFds[queue]!;
      if (on) events.watch(fd, EPOLL.in | EPOLL.edge, () => device.processQueue(queue));
      else events.unwatch(fd);
    },
    collectWrites({ ram }: DeviceContext, setups) {
      if (ram.isTracking) {
        markLoggedPages(log, ram);
        for (const { device, size } of setups) ram.markWritten(device, usedBytes(size));
      }
      log.fill(0);
    },
  });

  function startRing({ queue, setup, base }: RingToServe): void {
    const pair = pairOf(queue);
    const host = (address: number, bytes: number) => hostAddress(ram, address, bytes);
    const { size } = setup;
    startVhostRing(
      start.fds[pair]!,
      queue % 2,
      {
        size,
        base,
        descriptors: host(setup.descriptors, size * DESCRIPTOR.size),
        available: host(setup.driver, AVAIL.ring + size * AVAIL.entry + 2),
        used: host(setup.device, usedBytes(size)),
        kickFd: queueFds[queue]!,
        callFd: callFds[queue]!,
        errorFd: start.errorFd,
      },
      tapFds[pair]!,
    );
  }

  events.watch(start.errorFd, EPOLL.in | EPOLL.edge, () => device.ringFailed());
  return device;
}

const pairOf = (queue: number) => Math.floor(queue / 2);
const usedBytes = (size: number) => USED.ring + size * USED.entry + 2;

/** Throws an Error where the range is not in one region: then no address reaches the kernel. */
function hostAddress(regions: ServeContext['ram'], address: number, bytes: number): number {
  const region = regions.find(
    (each) => address >= each.address && address + bytes <= each.address + each.bytes,
  );
  if (!region) throw new Error('a ring is not in RAM');
  return region.host + (address - region.address);
}
