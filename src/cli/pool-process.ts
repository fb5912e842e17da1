/** A process that `volt pool` keeps: it waits, and becomes the process of a guest. */
import { followPool, takeCaller } from '../api/pool/idle-process.ts';
import { warmUp } from '../api/pool/warm-up.ts';
import { fail } from './fail.ts';
import { rehearsePlainly } from './plain-run.ts';
import './restore.ts';

/**
 * Collects garbage now, and not while a guest starts, which takes 2 ms: the engine lets the heap grow by what it has at a
 * collection, buffers included. This one is never written, so it takes no memory.
 */
const RESERVE_BYTES = 16 * 2 ** 20;

function deferCollection(): void {
  const reserve = new ArrayBuffer(RESERVE_BYTES);
  Bun.gc(true);
  reserve.transfer(0);
}

/** Returns when this process has the command line of its caller, which then runs as in any process. */
export async function becomeCaller(poolId: number): Promise<void> {
  try {
    followPool(poolId);
    await warmUp();
    await rehearsePlainly();
    deferCollection();
    if (takeCaller()) return;
  } catch (error) {
    process.exit(fail(error));
  }
  process.exit(0);
}
