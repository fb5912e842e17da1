/** The socket device in a configuration, in the shape of Firecracker's section `vsock`. */
import * as v from 'valibot';
import { dropUndefined, readSettings } from '../../schema/flag-settings.ts';
import { filePath, optional, section, text, wholeNumber } from '../../schema/values.ts';
import { defineSpec, type JsonObject } from '../host/device-spec.ts';
import { MAX_GUEST_CID, MIN_GUEST_CID } from './regs.ts';

export interface VsockConfig {
  readonly kind: 'vsock';
  readonly id: string;
  readonly guestCid: number;
  /** Unix socket for connections to the guest; servers for the guest's connections listen at `PATH_PORT`. */
  readonly path: string;
}

const entries = () => ({
  guest_cid: optional(wholeNumber(MIN_GUEST_CID, MAX_GUEST_CID), MIN_GUEST_CID),
  uds_path: filePath,
  vsock_id: optional(text),
});

const schema = () =>
  v.pipe(
    section(entries()),
    v.transform(({ guest_cid, uds_path }): readonly VsockConfig[] => [
      { kind: 'vsock', id: 'vsock', guestCid: guest_cid, path: uds_path },
    ]),
  );

function parseFlag(value: string): JsonObject {
  const settings = readSettings('--vsock', value, ['path', 'cid']);
  return dropUndefined({
    uds_path: settings.text('path', 'FILE'),
    guest_cid: settings.quantity('cid', `a number from ${MIN_GUEST_CID} on`),
  });
}

export const VSOCK = defineSpec<VsockConfig>({
  kind: 'vsock',
  section: 'vsock',
  isList: false,
  entries,
  schema,
  flag: {
    name: 'vsock',
    value: '<settings>',
    help: `sockets between guest and host: path=FILE of a Unix socket, cid=N, the guest's context id (default: ${MIN_GUEST_CID})`,
    parse: parseFlag,
  },
  hostSide: { idKey: undefined, keys: ['uds_path'] },
  socketPaths: ({ path }) => [path],
  sandboxNeeds: () => ['vsock'],
});
