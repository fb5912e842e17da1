/** Landlock's access rights by ABI version, and its structures. (uapi linux/landlock.h) */
import { putU64, viewOf } from '../binary/bytes.ts';

/** LANDLOCK_ACCESS_FS_* */
export const FS_RIGHT = {
  execute: 1 << 0,
  writeFile: 1 << 1,
  readFile: 1 << 2,
  readDir: 1 << 3,
  removeDir: 1 << 4,
  removeFile: 1 << 5,
  makeRegular: 1 << 8,
  refer: 1 << 13,
  truncate: 1 << 14,
  ioctlDevice: 1 << 15,
} as const;

/** Number of rights by ABI: 13 in ABI 1, then `refer`, `truncate`, and `ioctlDevice` in ABI 5. */
const FS_RIGHTS_BITS = [0, 13, 14, 15, 15, 16] as const;
/** LANDLOCK_ACCESS_NET_BIND_TCP and _CONNECT_TCP, since ABI 4. */
const NET_RIGHTS = 0b11;
/**
 * LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET, since ABI 6. Not its sibling for signals: each thread gets a domain of
 * its own, and kernels before 6.15 then refuse signals between threads of one process.
 */
const SCOPE_ABSTRACT_SOCKETS = 0b1;

/** `struct landlock_ruleset_attr`, which older kernels have shorter. */
const RULESET = { fs: 0, net: 8, scoped: 16, size: 24 } as const;
/** struct landlock_path_beneath_attr, packed. */
const PATH_BENEATH = { allowed: 0, parentFd: 8, size: 12 } as const;

/** All rights on files that this ABI handles. */
export function allFsRights(abi: number): number {
  return 2 ** FS_RIGHTS_BITS[Math.min(abi, FS_RIGHTS_BITS.length - 1)]! - 1;
}

/**
 * Denies everything that this ABI handles: files, TCP, abstract Unix sockets. Rules then allow some files.
 */
export function encodeRuleset(abi: number): Uint8Array {
  const bytes = new Uint8Array(abi >= 6 ? RULESET.size : abi >= 4 ? RULESET.scoped : RULESET.net);
  const view = viewOf(bytes);
  putU64(view, RULESET.fs, allFsRights(abi));
  if (abi >= 4) putU64(view, RULESET.net, NET_RIGHTS);
  if (abi >= 6) putU64(view, RULESET.scoped, SCOPE_ABSTRACT_SOCKETS);
  return bytes;
}

/** Allows `rights`, as far as this ABI knows them, at and below an open path. */
export function encodePathRule(abi: number, rights: number, pathFd: number): Uint8Array {
  const bytes = new Uint8Array(PATH_BENEATH.size);
  const view = viewOf(bytes);
  putU64(view, PATH_BENEATH.allowed, rights & allFsRights(abi));
  view.setInt32(PATH_BENEATH.parentFd, pathFd, true);
  return bytes;
}
