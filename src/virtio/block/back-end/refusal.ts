/** Answers the requests of a disk whose back-end is gone. */
import type { DeviceContext } from '../../transport/device.ts';
import { Chain, NEXT } from '../../transport/queue.ts';
import { BLOCK_STATUS } from '../regs.ts';

const STATUS = Uint8Array.of(BLOCK_STATUS.ioError);

/** Answers VIRTIO_BLK_S_IOERR to all requests in a queue. */
export function refuseRequests(context: DeviceContext, index: number): void {
  const queue = context.queues[index];
  if (queue === undefined) return;
  // Allocated here: it is large and rarely needed.
  const chain = new Chain();
  do {
    queue.disableNotifications();
    for (;;) {
      const next = queue.next(chain);
      if (next === NEXT.none) break;
      if (next === NEXT.broken) return context.fail(`queue ${index} has an invalid ring or descriptor chain`);
      // The status is the last device-writable byte. (Virtual I/O Device 1.2 §5.2.6)
      if (chain.writableBytes > 0) chain.copyIn(context.ram, chain.writableBytes - 1, STATUS);
      queue.pushUsed(chain.id, chain.writableBytes > 0 ? 1 : 0);
      context.countError(index);
    }
  } while (queue.enableNotifications());
  context.interrupt(index);
}
