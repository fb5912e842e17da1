/** stat(2) of paths from the user, and clauses for error messages about them. */
import { statSync } from 'node:fs';

export type PathState =
  | { readonly kind: 'file'; readonly bytes: number }
  /** `found` is a clause for an error message, such as "there is no such file". */
  | { readonly kind: 'unusable'; readonly found: string };

const PATH_PROBLEMS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  ENOTDIR: 'a part of the path is not a directory',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  EISDIR: 'it is a directory',
  ELOOP: 'too many symbolic links',
  ENAMETOOLONG: 'the path is too long',
  EROFS: 'its file system is read-only',
  ETXTBSY: 'it is a program that is running',
  ENXIO: 'there is no such device',
};

/** Why a path cannot be used, as a clause for an error message; undefined for other error codes. */
export function describePathProblem(code: string): string | undefined {
  return PATH_PROBLEMS[code];
}

/** Whether `path` is a regular file, and its size. Never throws. */
export function statPath(path: string): PathState {
  try {
    const stat = statSync(path);
    if (stat.isFile()) return { kind: 'file', bytes: stat.size };
    return { kind: 'unusable', found: stat.isDirectory() ? 'it is a directory' : 'it is not a regular file' };
  } catch (error) {
    const { code = '', message } = error as NodeJS.ErrnoException;
    return { kind: 'unusable', found: describePathProblem(code) ?? message };
  }
}
