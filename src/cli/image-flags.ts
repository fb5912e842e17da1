/** `volt run --image`: a guest whose kernel and disk come from an OCI image. */
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { resolve } from 'node:path';
import { openGuestImage } from '../api/guest-image/unpack.ts';
import { VoltError } from '../api/index.ts';
import type { Log } from './log.ts';
import type { MachineFlags } from './machine-options.ts';

export interface ImageFlags {
  readonly given: MachineFlags;
  /** To be called when the machine has opened its files. */
  readonly opened: () => void;
}

/** `flags` with the files of the image at `path`; flags win over what it has. Throws VoltError. */
export async function flagsOfImage(
  path: string,
  scratch: string | undefined,
  flags: MachineFlags,
  log: Log,
): Promise<ImageFlags> {
  if (flags.kernel !== undefined)
    throw new VoltError(
      'usage',
      'Cannot use --image with --kernel: an image has its own; remove one of the two',
    );
  const image = await openGuestImage(path, resolve(scratch ?? tmpdir()));
  log.info(`kernel at ${image.kernel}`);
  const removeOverlay = () => rmSync(image.overlay, { force: true });
  // Of a killed process that had the same id: in a container it is always 1.
  removeOverlay();
  // Raw whatever its bytes say: an image of another format could name files of the host.
  const root =
    image.disk === undefined
      ? []
      : [{ drive_id: 'root', path_on_host: image.disk, overlay: image.overlay, format: 'Raw' }];
  const disks = [...root, ...(flags.disk ?? [])];
  return {
    given: {
      ...flags,
      kernel: image.kernel,
      initrd: flags.initrd ?? image.initrd,
      cmdline: flags.cmdline ?? image.cmdline,
      disk: disks.length > 0 ? disks : undefined,
    },
    // The guest's writes end with it, however it ends: nothing has to remove a file without a name.
    opened: removeOverlay,
  };
}
