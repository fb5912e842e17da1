/**
 * Which of a device's eventfds are interrupts of KVM. Each source of interrupts, that is configuration changes and each
 * queue, has an eventfd. It is attached to the GSI of its vector while the vector is live. Otherwise the eventfd
 * keeps what is signalled, which is the vector's pending bit, and delivers it when it is attached again. So whoever
 * signals it, be it a thread of Volt or vhost in the host's kernel, need not know of masks.
 */
import { FUNCTION_WORD, MAX_VECTORS } from '../../pci/function-state.ts';
import { isVectorLive, noteRoute } from '../../pci/msix.ts';
import { DEVICE_WORD, QUEUE_WORD, queueWord } from './device-state.ts';
import { msixControl, type PciDevice } from './pci.ts';

/** What the thread asks KVM; none of them throws. */
export interface InterruptWiring {
  /** Gives KVM all routes, by `routed`. */
  setRoutes(): void;
  attach(fd: number, gsi: number): void;
  detach(fd: number, gsi: number): void;
  /** Whether the eventfd's counter is above 0; `take` sets it to 0 as well. */
  isSignalled(fd: number): boolean;
  take(fd: number): boolean;
  signal(fd: number): void;
}

/** The device and the GSI of its vector 0. */
export interface WiredDevice extends Pick<PciDevice, 'words' | 'shape' | 'state'> {
  readonly firstGsi: number;
}

const W = DEVICE_WORD;
const { attached, vectors: VECTORS } = FUNCTION_WORD;

/** Sources: 0, configuration changes; 1 + n, queue n. Those beyond the number of vectors share none. */
function sourcesOf({ state }: WiredDevice): number {
  return Math.min(state.words[W.queueCount]! + 1, MAX_VECTORS);
}

function fdOf({ state: { words } }: WiredDevice, source: number): number {
  return source === 0 ? words[W.configFd]! : words[queueWord(source - 1, QUEUE_WORD.callFd)]!;
}

function vectorOf({ state: { words } }: WiredDevice, source: number): number {
  return (source === 0 ? words[W.configVector]! : words[queueWord(source - 1, QUEUE_WORD.vector)]!) - 1;
}

/** Attaches and detaches eventfds as the table, its masks and the vectors of the queues say. Allocates nothing. */
export function routeInterrupts(device: WiredDevice, wiring: InterruptWiring): void {
  const { words, firstGsi } = device;
  const control = msixControl(device);
  const sources = sourcesOf(device);
  for (let source = 0; source < sources; source++) {
    const before = words[attached + source]!;
    if (before === 0) continue;
    const vector = vectorOf(device, source);
    if (vector + 1 === before && isVectorLive(words, vector, control)) continue;
    // What KVMs before 5.11 leave in the counter was delivered.
    wiring.take(fdOf(device, source));
    wiring.detach(fdOf(device, source), firstGsi + before - 1);
    words[attached + source] = 0;
  }
  let changed = false;
  for (let vector = 0; vector < words[VECTORS]!; vector++) {
    if (isVectorLive(words, vector, control) && noteRoute(words, vector)) changed = true;
  }
  if (changed) wiring.setRoutes();
  for (let source = 0; source < sources; source++) {
    const vector = vectorOf(device, source);
    if (words[attached + source] !== 0 || !isVectorLive(words, vector, control)) continue;
    const fd = fdOf(device, source);
    const pending = wiring.take(fd);
    wiring.attach(fd, firstGsi + vector);
    words[attached + source] = vector + 1;
    if (pending) wiring.signal(fd);
  }
}

/** Detaches all, as before the device is removed. */
export function detachInterrupts(device: WiredDevice, wiring: InterruptWiring): void {
  const { words, firstGsi } = device;
  for (let source = 0; source < MAX_VECTORS; source++) {
    const before = words[attached + source]!;
    if (before === 0) continue;
    wiring.detach(fdOf(device, source), firstGsi + before - 1);
    words[attached + source] = 0;
  }
}

/** Whether a source of this vector was signalled while it was masked. */
export function isVectorPending(device: WiredDevice, vector: number, wiring: InterruptWiring): boolean {
  for (let source = 0; source < sourcesOf(device); source++) {
    if (device.words[attached + source] !== 0 || vectorOf(device, source) !== vector) continue;
    if (wiring.isSignalled(fdOf(device, source))) return true;
  }
  return false;
}
