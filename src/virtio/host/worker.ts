/**
 * Entry point of a device worker: sleeps in epoll until a queue of one of its devices is kicked, and serves it.
 * No vCPU takes part in I/O, and no message is read while it runs: what it must know comes by shared words and an
 * eventfd.
 */
import { DEVICE_WORD, viewDeviceState } from '../transport/device-state.ts';
import { GuestRam } from '../transport/guest-ram.ts';
import { DeviceRunner } from '../transport/runner.ts';
import { EPOLL, signalEventFd } from '../../ffi/epoll.ts';
import { arrayBufferAt, type HostPointer } from '../../ffi/libc.ts';
import { installFilter } from '../../ffi/sandbox.ts';
import { setThreadName } from '../../ffi/thread.ts';
import { EventLoop } from './event-loop.ts';
import type { RamRegion } from './serve-device.ts';
import { serveDevice } from './serve.ts';
import { useNormalJitPolicy } from '../../runtime/jit-policy.ts';
import { WORKER_WORD, type ServedDevice, type VirtioReport, type VirtioWorkerStart } from './worker-start.ts';

declare const self: { onmessage: ((event: { data: VirtioWorkerStart }) => void) | null };
declare function postMessage(message: VirtioReport): void;

self.onmessage = ({ data }) => {
  self.onmessage = null;
  const words = new Int32Array(data.control);
  try {
    serve(data, words);
  } catch (error) {
    postMessage({ kind: 'worker-failed', message: error instanceof Error ? error.message : String(error) });
  } finally {
    Atomics.store(words, WORKER_WORD.stopped, 1);
    Atomics.notify(words, WORKER_WORD.stopped);
  }
};

function serve(start: VirtioWorkerStart, words: Int32Array): void {
  setThreadName(start.name);
  if (start.filter !== undefined) installFilter(start.filter, 'this');
  const ram = new GuestRam(start.ram.map(viewRegion));
  using events = new EventLoop();
  const runners = start.devices.map((device) => startDevice(device, start.ram, ram, events));
  events.watch(start.controlFd, EPOLL.in | EPOLL.edge, () => runners.forEach((runner) => runner.sync()));
  // What happened before the descriptors were watched.
  runners.forEach((runner) => runner.sync());
  useNormalJitPolicy();
  while (Atomics.load(words, WORKER_WORD.stopWanted) === 0) events.runOnce();
  runners.forEach((runner) => runner.stop());
}

function startDevice(
  { kind, slot, id, buffer, queueFds, interruptFd, start }: ServedDevice,
  regions: readonly RamRegion[],
  ram: GuestRam,
  events: EventLoop,
): DeviceRunner {
  const report = (text: string) => postMessage({ kind: 'device-message', id, text });
  const state = viewDeviceState(buffer, queueFds.length);
  const device = serveDevice(kind, start, { events, ram: regions, queueFds, interruptFd, report });
  const runner = new DeviceRunner(device, state, ram, {
    interrupt: () => signalEventFd(interruptFd),
    reportFailure: (reason, cause) => postMessage({ kind: 'device-failed', slot, id, reason, cause }),
  });
  // Notifications of queues that another process serves would wake this thread for nothing.
  if (state.words[DEVICE_WORD.servedByBackend] === 0) {
    queueFds.forEach((fd, queue) =>
      events.watch(fd, EPOLL.in | EPOLL.edge, () => runner.handleNotification(queue)),
    );
  }
  return runner;
}

function viewRegion({ address, bytes, host }: RamRegion) {
  return {
    address,
    bytes,
    host,
    // SAFETY: guest RAM stays mapped until this worker has said that it stopped.
    open: (offset: number, length: number) =>
      new Uint8Array(arrayBufferAt((host + offset) as HostPointer, length)),
  };
}
