/** Words parsed from the tables of flags alone give what commander makes of them, or are left to commander. */
import { Command } from '@commander-js/extra-typings';
import { expect, test } from 'bun:test';
import { addFlags } from '../../../src/cli/add-flags.ts';
import { parsePlainly, readNames } from '../../../src/cli/flags.ts';
import { MACHINE_FLAGS, RUN_FLAGS } from '../../../src/cli/run-flags.ts';

const GROUPS = [...MACHINE_FLAGS, ...RUN_FLAGS];

function parseByCommander(words: readonly string[]): unknown {
  const command = addFlags(new Command().exitOverride().configureOutput({ writeErr: () => {} }), GROUPS);
  return command.parse(words, { from: 'user' }).opts();
}

test.each([
  [''],
  ['--cpus 2 --memory 256M --no-reboot --kernel vmlinux'],
  ['-c 8,sockets=2 -m 1G -k a -i b'],
  ['--cpus=4 --cmdline=a=b --kernel='],
  ['--cmdline --cpus --kernel -'],
  ['--no-acpi --no-mptable --no-sandbox --hugepages --virtio-cmdline'],
  ['--reboot always'],
  ['--no-reboot --exit-code qemu --boot linux'],
  ['--disk a --disk path=b,readonly --disk c --rng --balloon --net user'],
  ['--control --json'],
  ['--control /a/b --timeline'],
  ['--control -'],
  ['--numa node=0,cpus=0 --numa node=1,cpus=1'],
  ['--cpu-affinity 0=1 --cpu-affinity 1=0'],
  ['--shutdown-timeout 0 --uid 5 --gid 6 --jail /j --log-level info --log-format json'],
])('volt %s', (line) => {
  const words = line.split(' ').filter((word) => word !== '');

  const plain = parsePlainly(GROUPS, words);

  expect(plain).toBeDefined();
  expect(plain).toEqual(parseByCommander(words) as Record<string, unknown>);
});

test.each([
  ['--frob'],
  ['-c4'],
  ['-c=4'],
  ['--'],
  ['vmlinux'],
  ['--cpus'],
  ['--cpus 1 --cpus 2'],
  ['--hugepages=yes'],
  ['--boot frob'],
  ['--control -1'],
  ['--kernel vmlinux extra'],
])('volt %s is left to commander', (line) => {
  expect(parsePlainly(GROUPS, line.split(' '))).toBeUndefined();
});

test('names are those that commander reads', () => {
  const command = addFlags(new Command(), GROUPS);

  const names = GROUPS.flatMap(({ flags }) => flags).map(readNames);

  expect(names.map(({ long, short, key, isNegated }) => ({ long, short, key, isNegated }))).toEqual(
    command.options.map((option) => ({
      long: option.long!,
      short: option.short,
      key: option.attributeName(),
      isNegated: option.negate,
    })),
  );
  expect(names.map(({ value }) => value)).toEqual(
    command.options.map(({ required, optional }) => (required ? 'required' : optional ? 'optional' : 'none')),
  );
});
