/** KVM's ABI for debuggers, against the numbers that strace prints and the sandbox permits. */
import { expect, test } from 'bun:test';
import { DEBUG_EXIT, GUEST_DEBUG, SET_GUEST_DEBUG } from '../../../src/kvm/debug-abi.ts';
import { RUN } from '../../../src/kvm/abi.ts';
import * as sandbox from '../../../src/sandbox/ioctls.ts';

test('KVM_SET_GUEST_DEBUG is the ioctl that the sandbox lets through', () => {
  expect(SET_GUEST_DEBUG).toBe(0x4048_ae9b);
  expect(sandbox.SET_GUEST_DEBUG).toBe(SET_GUEST_DEBUG);
  expect<number>(GUEST_DEBUG.size).toBe(8 + 8 * 8);
});

test('what an exit says is in the union of kvm_run', () => {
  expect(DEBUG_EXIT.exception).toBe(RUN.io.direction);
});
