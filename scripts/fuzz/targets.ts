/** All targets, those first that take the least time for an input. */
import { targetNamed, type FuzzTarget } from './target.ts';
import { answersTarget } from './targets/answers.ts';
import { backEndTarget } from './targets/back-end.ts';
import { balloonTarget } from './targets/balloon.ts';
import { boardTarget } from './targets/board.ts';
import { configTarget, machineTarget } from './targets/config.ts';
import { consoleTarget } from './targets/console.ts';
import { controlTarget, sessionTarget } from './targets/control.ts';
import { firecrackerTarget, mmdsTarget } from './targets/firecracker.ts';
import { flagsTarget } from './targets/flags.ts';
import { gdbTarget } from './targets/gdb.ts';
import { guestTarget, processTarget } from './targets/guest.ts';
import { initrdTarget, kernelTarget } from './targets/kernel.ts';
import { memTarget } from './targets/mem.ts';
import { netTarget } from './targets/net.ts';
import { layerTarget, manifestTarget } from './targets/oci.ts';
import { pciTarget } from './targets/pci.ts';
import { overlayFileTarget, overlayTarget } from './targets/overlay.ts';
import { poolTarget } from './targets/pool.ts';
import { savedDeviceTarget } from './targets/saved-device.ts';
import { snapshotTarget } from './targets/snapshot.ts';
import { symbolsTarget, systemMapTarget } from './targets/symbols.ts';
import { acpiTarget, mpTarget } from './targets/tables.ts';
import { httpTarget } from './targets/http.ts';
import { vhostUserTarget } from './targets/vhost-user.ts';
import { virtqueueTarget } from './targets/virtqueue.ts';
import { vsockTarget } from './targets/vsock.ts';

export const TARGETS: readonly FuzzTarget[] = [
  httpTarget,
  gdbTarget,
  firecrackerTarget,
  mmdsTarget,
  poolTarget,
  kernelTarget,
  initrdTarget,
  configTarget,
  machineTarget,
  flagsTarget,
  controlTarget,
  sessionTarget,
  answersTarget,
  mpTarget,
  acpiTarget,
  symbolsTarget,
  systemMapTarget,
  layerTarget,
  manifestTarget,
  overlayTarget,
  overlayFileTarget,
  savedDeviceTarget,
  snapshotTarget,
  virtqueueTarget,
  vhostUserTarget,
  backEndTarget,
  memTarget,
  netTarget,
  vsockTarget,
  consoleTarget,
  balloonTarget,
  boardTarget,
  pciTarget,
  guestTarget,
  processTarget,
];

/** Throws RangeError for a name that is none. */
export function findTarget(name: string, among: readonly FuzzTarget[] = TARGETS): FuzzTarget {
  return targetNamed(name, among);
}
