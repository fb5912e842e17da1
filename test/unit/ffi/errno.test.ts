import { expect, test } from 'bun:test';
import { constants } from 'node:os';
import { ERRNO, errnoName, SyscallError } from '../../../src/ffi/errno.ts';

test('numbers are those of this system', () => {
  const theirs: Readonly<Record<string, number>> = constants.errno;
  const wrong = Object.entries(ERRNO).filter(([name, number]) => (theirs[name] ?? number) !== number);
  expect(wrong).toEqual([]);
});

test('a number has its name, or stands for itself', () => {
  expect(errnoName(2)).toBe('ENOENT');
  expect(errnoName(133)).toBe('errno 133');
});

test('an error says which call failed, why, and what to do', () => {
  const error = new SyscallError('open /dev/kvm', ERRNO.EACCES, 'join the kvm group');
  expect(error.message).toBe('open /dev/kvm failed: EACCES (permission denied); join the kvm group');
  expect(error).toMatchObject({ name: 'SyscallError', call: 'open /dev/kvm', errno: 13, code: 'EACCES' });
});

test('an error without a meaning or advice is short', () => {
  expect(new SyscallError('ioctl', ERRNO.EOVERFLOW).message).toBe('ioctl failed: EOVERFLOW');
  expect(new SyscallError('ioctl', 133).message).toBe('ioctl failed: errno 133');
});
