/** Whatever is wrong with what the user gave: one line that says what it is, and exit code 2. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { chmodSync } from 'node:fs';
import { runBadInput, type BadInput } from './bad-input.ts';
import { BAD_KERNELS } from './bad-kernels.ts';
import { BAD_CONFIGS, BAD_FLAGS, BAD_INITRDS } from './bad-machines.ts';
import { buildElf } from './images.ts';
import { canChangeMounts, inOwnMounts } from './own-mounts.ts';
import { runVolt, TemporaryFolder } from './volt-process.ts';

setDefaultTimeout(120_000);

const ALL = [...BAD_KERNELS, ...BAD_INITRDS, ...BAD_FLAGS, ...BAD_CONFIGS];
const isRoot = process.getuid?.() === 0;

/** With a /dev/kvm that answers no ioctl, so that whoever asks it anything fails. */
const WITHOUT_KVM = inOwnMounts('mount --bind /dev/null /dev/kvm');

async function assertRefused(input: BadInput): Promise<void> {
  const { stdout, stderr, exitCode } = await runBadInput(input);

  expect(stderr).toBe(`volt: ${input.message}\n`);
  expect(stdout).toBe('');
  expect(exitCode).toBe(2);
}

test('the table is as long as it should be, and no case is in it twice', () => {
  const names = ALL.map((input) => input.name);

  expect(ALL.length).toBeGreaterThanOrEqual(45);
  expect(new Set(names).size).toBe(names.length);
});

describe('a kernel', () => {
  test.each(BAD_KERNELS.map((input) => [input.name, input] as const))('%s', (_, input) =>
    assertRefused(input),
  );

  test.skipIf(isRoot)('that this user may not read (needs a user other than root)', async () => {
    using folder = new TemporaryFolder();
    const path = await folder.write('kernel', buildElf());
    chmodSync(path, 0o000);

    const { stderr, stdout, exitCode } = await runVolt(['--kernel', path]);

    expect(stderr).toBe(
      `volt: Cannot use --kernel ${path}: permission denied (expected a file that you may read)\n`,
    );
    expect(stdout).toBe('');
    expect(exitCode).toBe(2);
  });
});

describe('an initrd', () => {
  test.each(BAD_INITRDS.map((input) => [input.name, input] as const))('%s', (_, input) =>
    assertRefused(input),
  );
});

describe('flags', () => {
  test.each(BAD_FLAGS.map((input) => [input.name, input] as const))('%s', (_, input) => assertRefused(input));
});

describe('a configuration file', () => {
  test.each(BAD_CONFIGS.map((input) => [input.name, input] as const))('%s', (_, input) =>
    assertRefused(input),
  );
});

describe('without KVM', () => {
  test.skipIf(!canChangeMounts)(
    'no case gets as far as asking it anything (needs unshare, user namespaces and /dev/kvm)',
    async () => {
      const runs: string[] = [];
      for (const input of ALL) runs.push((await runBadInput(input, WITHOUT_KVM)).stderr);

      expect(runs).toHaveLength(ALL.length);
      expect(runs.filter((stderr) => stderr.includes('/dev/kvm'))).toEqual([]);
    },
  );
});
