/** Counts under the bus lock with a plain read and write, which loses counts if two threads are in at once. */
import { lockBus, unlockBus, viewSharedState } from '../../../../src/vmm/bus/shared-state.ts';

declare const self: Worker;

self.onmessage = ({
  data,
}: MessageEvent<{ buffer: SharedArrayBuffer; counter: Int32Array; rounds: number }>) => {
  const { words } = viewSharedState(data.buffer, 1);
  for (let i = 0; i < data.rounds; i++) {
    lockBus(words);
    data.counter[0] = data.counter[0]! + 1;
    unlockBus(words);
  }
  self.postMessage('done');
};
