/** Pausing a vCPU that does not come out of the guest in time, by what is shared with its thread. */
import { expect, test } from 'bun:test';
import {
  createSharedState,
  VCPU_COMMAND,
  VCPU_PHASE,
  VCPU_WORD,
} from '../../../../src/vmm/bus/shared-state.ts';
import { pauseVcpus, resumeVcpus } from '../../../../src/vmm/vcpu/control.ts';
import type { Vcpu } from '../../../../src/vmm/vcpu/vcpu.ts';

/** One without a thread, which never obeys. */
function createVcpu(): Vcpu {
  const words = createSharedState(1).vcpuWords(0);
  words[VCPU_WORD.phase] = VCPU_PHASE.running;
  return {
    index: 0,
    words,
    runFlags: new Uint8Array(16),
    scheduling: { cpus: undefined, nice: undefined },
  } as unknown as Vcpu;
}

const commandOf = ({ words }: Vcpu) => words[VCPU_WORD.command];

test('a pause that comes to nothing is not obeyed later', async () => {
  const vcpu = createVcpu();

  const pause = pauseVcpus([vcpu], 10);

  expect(commandOf(vcpu)).toBe(VCPU_COMMAND.pause);
  await expect(pause).rejects.toThrow('Cannot pause vCPU 0');
  expect(commandOf(vcpu)).toBe(VCPU_COMMAND.run);
});

test('a resume also takes back a pause that was not obeyed yet', async () => {
  const vcpu = createVcpu();
  void pauseVcpus([vcpu], 1000).catch(() => {});

  await resumeVcpus([vcpu]);

  expect(commandOf(vcpu)).toBe(VCPU_COMMAND.run);
});
