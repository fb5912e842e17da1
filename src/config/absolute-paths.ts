/** Paths of a configuration that is kept: relative ones would change their meaning with the directory. */
import { resolve } from 'node:path';
import { isSection } from '../schema/values.ts';
import type { ConfigInput } from './config.ts';

/** Keys of all sections whose values are paths. */
const PATH_KEYS: ReadonlySet<string> = new Set([
  'kernel_image_path',
  'initrd_path',
  'symbols',
  'path_on_host',
  'overlay',
  'socket',
  'file',
  'uds_path',
]);
const CONSOLE_FILE = 'file=';

/** A copy of a valid configuration in which no path depends on the directory that it was relative to. */
export function withAbsolutePaths(input: ConfigInput, directory: string): ConfigInput {
  return mapSection(input, directory);
}

function mapSection(section: ConfigInput, directory: string): ConfigInput {
  const keys = Object.entries(section).map(([key, value]) => [key, mapValue(key, value, directory)]);
  return Object.fromEntries(keys);
}

function mapValue(key: string, value: unknown, directory: string): unknown {
  if (typeof value === 'string') return mapText(key, value, directory);
  if (Array.isArray(value)) return value.map((item) => mapValue('', item, directory));
  return isSection(value) ? mapSection(value, directory) : value;
}

function mapText(key: string, value: string, directory: string): string {
  if (PATH_KEYS.has(key)) return resolve(directory, value);
  const isFile = key === 'console' && value.startsWith(CONSOLE_FILE);
  return isFile ? CONSOLE_FILE + resolve(directory, value.slice(CONSOLE_FILE.length)) : value;
}
