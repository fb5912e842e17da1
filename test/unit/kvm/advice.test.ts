import { expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ERRNO } from '../../../src/ffi/errno.ts';
import { KvmSystem, openKvmAdvice } from '../../../src/kvm/system.ts';

test.each([
  ['ENOENT', /^load kvm_intel or kvm_amd, enable VT-x or AMD-V in the firmware, or nested virtualization/],
  ['ENODEV', /^load kvm_intel or kvm_amd/],
  ['ENXIO', /^load kvm_intel or kvm_amd/],
  ['EACCES', /^add your user to the kvm group \(usermod -aG kvm USER/],
  ['EPERM', /^add your user to the kvm group/],
] as const)('a /dev/kvm that does not open with %s comes with what to do', (code, advice) => {
  expect(openKvmAdvice(ERRNO[code])).toMatch(advice);
});

test('other errors come without advice', () => {
  expect(openKvmAdvice(ERRNO.EMFILE)).toBeUndefined();
});

test('a device that is not there is told with path, errno and advice', () => {
  const directory = mkdtempSync(join(tmpdir(), 'volt-no-kvm-'));
  const path = join(directory, 'kvm');
  expect(() => new KvmSystem(path)).toThrow(`open ${path} failed: ENOENT (no such file); load kvm_intel`);
  rmSync(directory, { recursive: true });
});

test('a device that is not KVM is told so', () => {
  expect(() => new KvmSystem('/dev/null')).toThrow(
    'Cannot use /dev/null: its API version is -1 (expected 12)',
  );
});
