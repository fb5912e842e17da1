/**
 * Entry point of a device worker: waits in epoll until the driver notifies a queue, then processes the queue.
 * No vCPU takes part in I/O. While it runs the worker receives no messages, only signals of its control
 * eventfd, after which it reads the shared words.
 */
import { DEVICE_WORD, viewDeviceState } from '../transport/device-state.ts';
import { GuestRam } from '../transport/guest-ram.ts';
import { DeviceRunner } from '../transport/runner.ts';
import { EPOLL } from '../../ffi/epoll.ts';
import { arrayBufferAt, type HostPointer } from '../../ffi/libc.ts';
import { installFilter } from '../../ffi/sandbox.ts';
import { setThreadName } from '../../ffi/thread.ts';
import { createInterrupts, watchInterrupts } from './device-interrupts.ts';
import { EventLoop } from './event-loop.ts';
import { receiveChange } from './mailbox.ts';
import type { MappedRegion } from './serve-device.ts';
import { serveDevice } from './serve.ts';
import { DirtyPages } from '../../machine/dirty-pages.ts';
import { useNormalJitPolicy } from '../../runtime/jit-policy.ts';
import {
  WORKER_RUN,
  WORKER_STOP,
  WORKER_WORD,
  type ServedDevice,
  type VirtioReport,
  type VirtioWorkerStart,
} from './worker-start.ts';

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
  const dirty = new DirtyPages(start.dirty.ramBytes, start.dirty.buffer);
  const ram = new GuestRam(start.ram.map(viewRegion), dirty);
  using events = new EventLoop();
  const runners = start.devices.map((device) => startDevice(device, start, { ram, dirty, events }));
  const obey = () =>
    runners.forEach((runner, i) => {
      runner.sync();
      receiveChange(start.devices[i]!.mailbox, (change) => runner.change(change));
    });
  const pauseDevices = () =>
    runners.forEach((runner, i) => {
      const text = runner.pause();
      if (text !== undefined) postMessage({ kind: 'device-message', id: start.devices[i]!.id, text });
    });
  events.watch(start.controlFd, EPOLL.in | EPOLL.edge, obey);
  // Handles requests from before the descriptors were watched.
  runners.forEach((runner) => runner.start());
  useNormalJitPolicy();
  for (;;) {
    const command = Atomics.load(words, WORKER_WORD.command);
    if (command === WORKER_RUN) events.runOnce();
    else if (command === WORKER_STOP) break;
    else {
      // Nobody is to wait for a change until the pause ends.
      obey();
      pauseDevices();
      events.hold(() => waitForResume(words, command));
      if (Atomics.load(words, WORKER_WORD.command) === WORKER_RUN)
        runners.forEach((runner) => runner.resume());
    }
  }
  runners.forEach((runner) => runner.stop());
}

/** Says that the pause with this number has begun, and blocks until the main thread ends it. */
function waitForResume(words: Int32Array, pause: number): void {
  Atomics.store(words, WORKER_WORD.paused, pause);
  Atomics.notify(words, WORKER_WORD.paused);
  while (Atomics.load(words, WORKER_WORD.command) === pause) Atomics.wait(words, WORKER_WORD.command, pause);
}

function startDevice(
  { kind, number, id, buffer, queueCapacity, fds, start }: ServedDevice,
  { ram: regions, hotplug }: VirtioWorkerStart,
  { ram, dirty, events }: { readonly ram: GuestRam; readonly dirty: DirtyPages; readonly events: EventLoop },
): DeviceRunner {
  const report = (text: string) => postMessage({ kind: 'device-message', id, text });
  const { queueFds, callFds } = fds;
  const state = viewDeviceState(buffer, queueCapacity, queueFds.length);
  const device = serveDevice(kind, start, {
    ...{ events, ram: regions, queueFds, callFds, report, dirty, hotplug },
  });
  const interrupts = createInterrupts(state, fds);
  const runner = new DeviceRunner(device, state, ram, {
    ...interrupts,
    now: () => events.now(),
    reportFailure: (reason, cause) => postMessage({ kind: 'device-failed', number, id, reason, cause }),
  });
  watchInterrupts(state, fds, events, interrupts);
  // Notifications of a device with a vhost back-end would only wake this thread.
  if (state.words[DEVICE_WORD.servedByBackend] === 0) {
    queueFds.forEach((fd, queue) =>
      events.watch(fd, EPOLL.in | EPOLL.edge, () => runner.handleNotification(queue)),
    );
  }
  return runner;
}

function viewRegion({ address, bytes, host }: MappedRegion) {
  return {
    address,
    bytes,
    host,
    // SAFETY: guest RAM stays mapped until this worker has set its `stopped` word.
    open: (offset: number, length: number) =>
      new Uint8Array(arrayBufferAt((host + offset) as HostPointer, length)),
  };
}
