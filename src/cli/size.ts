/** Memory sizes as arguments of flags and commands. */
import { parseMib } from '../api/index.ts';
import { InvalidArgument } from './flags.ts';

/** Returns MiB. Throws InvalidArgument. */
export function toMib(text: string): number {
  try {
    return parseMib(text);
  } catch (error) {
    throw new InvalidArgument((error as Error).message);
  }
}
