/** Answers the requests of a device in place of its back-end, which is gone. */
import type { DeviceContext } from '../transport/device.ts';
import { Chain, NEXT } from '../transport/queue.ts';

/** Answers all requests in a queue. `answer` writes the reply to one and returns its bytes. */
export function answerRequests(
  context: DeviceContext,
  index: number,
  answer: (chain: Chain) => number,
): void {
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
      queue.pushUsed(chain.id, answer(chain));
    }
  } while (queue.enableNotifications());
  context.interrupt(index);
}
