/** All targets, those first that take the least time for an input. */
import type { FuzzTarget } from './target.ts';
import { boardTarget } from './targets/board.ts';
import { configTarget, machineTarget } from './targets/config.ts';
import { controlTarget, sessionTarget } from './targets/control.ts';
import { flagsTarget } from './targets/flags.ts';
import { guestTarget, processTarget } from './targets/guest.ts';
import { initrdTarget, kernelTarget } from './targets/kernel.ts';
import { overlayFileTarget, overlayTarget } from './targets/overlay.ts';
import { symbolsTarget, systemMapTarget } from './targets/symbols.ts';
import { acpiTarget, mpTarget } from './targets/tables.ts';
import { vhostUserTarget } from './targets/vhost-user.ts';
import { virtqueueTarget } from './targets/virtqueue.ts';

export const TARGETS: readonly FuzzTarget[] = [
  kernelTarget,
  initrdTarget,
  configTarget,
  machineTarget,
  flagsTarget,
  controlTarget,
  sessionTarget,
  mpTarget,
  acpiTarget,
  symbolsTarget,
  systemMapTarget,
  overlayTarget,
  overlayFileTarget,
  virtqueueTarget,
  vhostUserTarget,
  boardTarget,
  guestTarget,
  processTarget,
];

/** Throws RangeError for a name that is none. */
export function findTarget(name: string, among: readonly FuzzTarget[] = TARGETS): FuzzTarget {
  const target = among.find((each) => each.name === name);
  if (target) return target;
  throw new RangeError(
    `Cannot fuzz ${name}: no such target (expected ${among.map((each) => each.name).join(', ')})`,
  );
}
