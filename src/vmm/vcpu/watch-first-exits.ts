/** Notes when each AP made its first exit after its SIPI, for --timeline: a Worker has no room for that on its way. */
import { EXIT_COUNTERS, now, VCPU_MOMENT, VCPU_WORD, type SharedState } from '../bus/shared-state.ts';
import type { Vcpu } from './vcpu.ts';

const POLL_MS = 1;
/** A guest that has not started its APs by then is not going to. */
const MOST_MS = 120_000;

export function watchFirstExits(
  shared: SharedState,
  vcpus: readonly Vcpu[],
  bootCpu: number,
  ended: Promise<unknown>,
): void {
  const waiting = new Set(vcpus.filter(({ index }) => index !== bootCpu));
  const stop = () => clearInterval(timer);
  const until = now() + MOST_MS;
  const timer = setInterval(() => {
    for (const vcpu of waiting) {
      const moments = shared.vcpuMoments(vcpu.index);
      if (moments[VCPU_MOMENT.started] === 0 || !hasExited(vcpu)) continue;
      moments[VCPU_MOMENT.firstExit] ||= now();
      waiting.delete(vcpu);
    }
    if (waiting.size === 0 || now() > until) stop();
  }, POLL_MS);
  timer.unref();
  void ended.then(stop);
}

function hasExited({ words }: Vcpu): boolean {
  const counters = words.subarray(VCPU_WORD.exits, VCPU_WORD.exits + EXIT_COUNTERS);
  return counters.some((count) => count !== 0);
}
