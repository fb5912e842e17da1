/** Puts the metadata service in front of the ports of an interface, on its device worker. */
import { randomBytes } from '../../../ffi/random.ts';
import type { ThrottleEffects } from '../../transport/throttle.ts';
import type { NetPort } from '../port.ts';
import { MmdsPort } from './port.ts';
import type { MmdsStart } from './start.ts';
import { MmdsReader } from './store.ts';
import { Tokens } from './tokens.ts';

/** `readable` is called when the port of a queue pair has a packet of the service. */
export function serveMmds(
  ports: readonly NetPort[],
  { buffer, address, version, imdsCompat, key, id }: MmdsStart,
  { now, after }: ThrottleEffects,
  readable: (pair: number) => void,
): NetPort[] {
  const reader = new MmdsReader(buffer);
  const tokens = new Tokens(id, key, now);
  const random = () => new DataView(randomBytes(4).buffer).getUint32(0);
  return ports.map(
    (port, pair) =>
      new MmdsPort(
        port,
        { address, version, imdsCompat },
        {
          value: () => reader.value(),
          createToken: (seconds) => tokens.create(seconds),
          isValidToken: (token) => tokens.isValid(token),
          now,
          after,
          random,
          readable: () => readable(pair),
        },
      ),
  );
}
