/** Snapshots for programs; their code is loaded when it is called, because most guests are never saved. */
import type { ConfigInput } from '../config/config.ts';
import type { VirtualMachine } from '../vmm/virtual-machine.ts';
import type { ControlClient } from './control/client.ts';
import type { SaveOptions } from './control/save-guest.ts';
import type { SnapshotResult } from './control/target.ts';
import type { RestoreOptions } from './restore.ts';

/**
 * A machine that goes on where its guest was saved, once it is started. `overrides` has what this host gives
 * the guest otherwise than the saved configuration, in the sections of a configuration file: of devices,
 * which are named by id, files, taps and sockets. The snapshot's files stay as they are and may be restored
 * from any number of times; they may not change while a guest runs that was restored from them. Throws
 * VoltError.
 */
export async function restore(
  directory: string,
  overrides: ConfigInput = {},
  options: RestoreOptions = {},
): Promise<VirtualMachine> {
  const { readSnapshot, restoreMachine } = await import('./restore.ts');
  return restoreMachine(readSnapshot(directory, overrides), options);
}

/**
 * Saves the guest behind a control socket to `directory`, which is created if it does not exist. Throws
 * VoltError, with an earlier snapshot there as it was.
 */
export async function saveGuest(
  client: ControlClient,
  directory: string,
  options: SaveOptions = {},
): Promise<SnapshotResult> {
  const save = await import('./control/save-guest.ts');
  return save.saveGuest(client, directory, options);
}
