/** The flags of `volt restore`: those of `volt run` that are about the host, and how memory and clocks come back. */
import { CLOCK_CHOICES } from '../api/index.ts';
import { deviceFlags } from './device-flags.ts';
import { readNames, type Flag } from './flags.ts';
import { MACHINE_FLAGS, RUN_FLAGS } from './run-flags.ts';

export const RESTORE_HELP = `
Examples:
  volt restore web.snap
  volt restore web.snap --control --console none
  volt restore web.snap --disk id=disk0,path=root.img,overlay=clone1.img
  volt restore web.snap --net id=net0,tap=clone1,mac=06:00:ac:10:00:03
  volt restore web.snap --vsock path=/run/clone1.sock

A device's flag names a device of the snapshot by its id (default: the first
one, disk0 or net0) and replaces its files, tap and sockets, and only those. A
snapshot may be restored from any number of times; each guest needs disks of
its own: an overlay over the same image, or a copy.`;

/** Flags of `volt run` by their names. */
function pick(...names: readonly string[]): Flag[] {
  const all = [...MACHINE_FLAGS, ...RUN_FLAGS].flatMap(({ flags }) => flags);
  return names.map((name) => all.find((flag) => readNames(flag).long === name)!);
}

export const RESTORE_FLAGS = [
  {
    title: 'Machine:',
    flags: [
      {
        flags: '--clock <how>',
        help: "realtime: the guest's clocks go on at the host's time; offset: as if no time had passed",
        choices: CLOCK_CHOICES,
        default: 'realtime',
      },
      {
        flags: '--uffd <socket>',
        help: 'memory comes from the handler of page faults at this Unix socket',
      },
      {
        flags: '--ignore-cpu',
        help: "start even if this host's CPU lacks features that the guest has seen",
      },
      ...pick('--cpu-affinity', '--reboot', '--no-reboot', '--symbols', '--hang-report'),
    ],
  },
  {
    title: 'Devices:',
    flags: [
      {
        flags: '--console <where>',
        help: 'serial console: stdio, none, or file=PATH to append to a file (default: as saved)',
      },
      ...deviceFlags(({ hostSide }) => hostSide !== undefined),
    ],
  },
  { title: 'Messages:', flags: pick('--log-level', '--log-format') },
  {
    title: 'Running:',
    flags: pick(
      '--name',
      '--timeline',
      '--control',
      '--metrics',
      '--gdb',
      '--shutdown-timeout',
      '--pool',
      '--no-pool',
    ),
  },
  ...RUN_FLAGS.filter(({ title }) => title === 'Confinement:'),
];
