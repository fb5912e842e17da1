/**
 * The executable starts with its just-in-time compiler held back (scripts/build.ts), because what starts a guest runs
 * once. A thread that is about to do the same thing over and over lets its compiler go.
 */

/** 1 is the engine's normal policy; larger numbers multiply the thresholds at which code is compiled. */
const NORMAL = 1;

/** For the calling thread. */
export function useNormalJitPolicy(): void {
  Bun.unsafe.setJITPolicy(NORMAL);
}
