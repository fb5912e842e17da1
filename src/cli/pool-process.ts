/** A process that `volt pool` keeps: it waits, and becomes the process of a guest. */
import { followPool, takeCaller } from '../api/pool/idle-process.ts';
import { warmUp } from '../api/pool/warm-up.ts';
import { fail } from './fail.ts';
import './plain-run.ts';
import './restore.ts';

/** Returns when this process has the command line of its caller, which then runs as in any process. */
export async function becomeCaller(poolId: number): Promise<void> {
  try {
    followPool(poolId);
    await warmUp();
    if (takeCaller()) return;
  } catch (error) {
    process.exit(fail(error));
  }
  process.exit(0);
}
