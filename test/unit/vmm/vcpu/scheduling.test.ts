/** Requests to a vCPU's thread for its affinity and nice value; this thread plays both parts. */
import { describe, expect, test } from 'bun:test';
import { getThreadAffinity } from '../../../../src/ffi/affinity.ts';
import { MAX_HOST_CPUS } from '../../../../src/machine/cpu-list.ts';
import { createSharedState, SCHEDULING, VCPU_WORD } from '../../../../src/vmm/bus/shared-state.ts';
import {
  finishScheduling,
  obeyScheduling,
  requestScheduling,
  withdrawScheduling,
} from '../../../../src/vmm/vcpu/scheduling.ts';

const createWords = () => createSharedState(1).vcpuWords(0);
const stateOf = (words: Int32Array) => words[VCPU_WORD.scheduling];

describe('a request to change the scheduling of a vCPU', () => {
  test('is served once', () => {
    const words = createWords();
    const cpus = getThreadAffinity(0);
    requestScheduling(words, { cpus });

    obeyScheduling(words);
    const served = stateOf(words);
    finishScheduling(words, { cpus });
    obeyScheduling(words);

    expect([served, stateOf(words)]).toEqual([SCHEDULING.done, SCHEDULING.none]);
    expect(getThreadAffinity(0)).toEqual(cpus);
  });

  test('that fails on the thread throws where it was made, and nothing of it stays', () => {
    const words = createWords();
    const cpus = [MAX_HOST_CPUS - 1];
    requestScheduling(words, { cpus });
    obeyScheduling(words);

    expect(() => finishScheduling(words, { cpus })).toThrow('sched_setaffinity failed: EINVAL');
    expect(stateOf(words)).toBe(SCHEDULING.none);
  });

  test('that was withdrawn is not served later', () => {
    const words = createWords();
    requestScheduling(words, { cpus: [MAX_HOST_CPUS - 1] });

    expect(withdrawScheduling(words)).toBe(true);
    obeyScheduling(words);

    expect(stateOf(words)).toBe(SCHEDULING.none);
  });

  test('cannot be withdrawn once it is served', () => {
    const words = createWords();
    requestScheduling(words, { cpus: getThreadAffinity(0) });
    obeyScheduling(words);

    expect(withdrawScheduling(words)).toBe(false);
  });
});
