/**
 * JIT thresholds of the JavaScript engine. The executable starts with raised thresholds (scripts/build.ts),
 * because start-up code runs only once. A thread that is about to run a loop restores the normal ones.
 */

/** Multiplier of the thresholds at which code is compiled. */
const NORMAL = 1;

/** Applies to the calling thread. */
export function useNormalJitPolicy(): void {
  Bun.unsafe.setJITPolicy(NORMAL);
}
