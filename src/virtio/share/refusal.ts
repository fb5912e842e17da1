/**
 * Requests to a file system that nobody serves any more. Linux waits for each answer however long it takes, so
 * without one whoever touches the file system could never be ended, and the guest not even shut down.
 */
import { viewOf } from '../../binary/bytes.ts';
import type { DeviceContext } from '../transport/device.ts';
import { ENOTCONN, FUSE_IN_HEADER, FUSE_OUT_HEADER } from './regs.ts';
import { Chain, NEXT } from '../transport/queue.ts';

/** Answers all that waits in a queue with ENOTCONN. */
export function refuseRequests(context: DeviceContext, index: number): void {
  const queue = context.queues[index];
  if (queue === undefined) return;
  // Made here: it is large, and nearly no machine ever comes to need one.
  const chain = new Chain();
  do {
    queue.disableNotifications();
    for (;;) {
      const next = queue.next(chain);
      if (next === NEXT.none) break;
      if (next === NEXT.broken) return context.fail(`queue ${index} makes no sense`);
      queue.pushUsed(chain.id, refuse(context, chain));
    }
  } while (queue.enableNotifications());
  context.interrupt(index);
}

/** Bytes of the answer: none to what wants none, as FORGET. */
function refuse({ ram }: DeviceContext, chain: Chain): number {
  if (chain.writableBytes < FUSE_OUT_HEADER.size) return 0;
  const request = new Uint8Array(FUSE_IN_HEADER.size);
  chain.copyOut(ram, 0, request);
  const answer = new Uint8Array(FUSE_OUT_HEADER.size);
  const view = viewOf(answer);
  view.setUint32(FUSE_OUT_HEADER.bytes, FUSE_OUT_HEADER.size, true);
  view.setInt32(FUSE_OUT_HEADER.error, -ENOTCONN, true);
  answer.set(request.subarray(FUSE_IN_HEADER.unique, FUSE_IN_HEADER.unique + 8), FUSE_OUT_HEADER.unique);
  return chain.copyIn(ram, 0, answer);
}
