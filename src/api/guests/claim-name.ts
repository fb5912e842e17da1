/**
 * The name of a running guest: a lock that the kernel drops with the process, however that ends, and the path
 * of its control socket. Nothing that a killed guest or a restarted host leaves behind has to be cleaned up.
 */
import { join } from 'node:path';
import { lockFile } from '../../ffi/block-file.ts';
import { OPEN, openFile } from '../../ffi/file.ts';
import { VoltError } from '../../volt-error.ts';
import { listNamed, openNamesFolder } from '../control/directory.ts';
import { hostPlaces, type SocketPlaces } from '../control/socket-places.ts';
import { checkGuestName } from './guest-name.ts';

export interface NameClaim extends Disposable {
  /** Where the guest's control socket belongs. */
  readonly socketPath: string;
}

/** Takes `name` for this process until it ends or disposes of the claim. Throws VoltError. */
export function claimName(name: string, places: SocketPlaces = hostPlaces()): NameClaim {
  checkGuestName(name);
  const folder = openNamesFolder(places);
  // Never removed: whoever waits for a lock on a removed file would hold one that nobody else sees.
  const lock = openFile(join(folder, `${name}.lock`), OPEN.readWrite | OPEN.create);
  const isFree = lockFile(lock.fd, true);
  const owner = listNamed(places).find((guest) => guest.name === name);
  if (!isFree || owner) {
    lock.close();
    throw nameInUse(name, owner?.pid);
  }
  return { socketPath: join(folder, `${name}.sock`), [Symbol.dispose]: () => lock.close() };
}

export function nameInUse(name: string, pid: number | undefined): VoltError {
  const who = pid === undefined ? 'a guest of this name is starting' : `process ${pid} runs it`;
  return new VoltError('usage', `Cannot start ${name}: ${who}; stop it, or choose another name`);
}
