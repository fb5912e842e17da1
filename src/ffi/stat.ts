/** stat(2) of paths that users give, with a reason instead of an exception. */
import { statSync } from 'node:fs';

export type PathState =
  | { readonly kind: 'file'; readonly bytes: number }
  /** `found` is a clause for an error message, such as "there is no such file". */
  | { readonly kind: 'unusable'; readonly found: string };

const FOUND: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  ENOTDIR: 'a part of the path is not a directory',
  EACCES: 'permission denied',
  ELOOP: 'too many symbolic links',
  ENAMETOOLONG: 'the path is too long',
};

/** Whether `path` is a regular file, and its size. Never throws. */
export function statPath(path: string): PathState {
  try {
    const stat = statSync(path);
    if (stat.isFile()) return { kind: 'file', bytes: stat.size };
    return { kind: 'unusable', found: stat.isDirectory() ? 'it is a directory' : 'it is not a regular file' };
  } catch (error) {
    const { code = '', message } = error as NodeJS.ErrnoException;
    return { kind: 'unusable', found: FOUND[code] ?? message };
  }
}
