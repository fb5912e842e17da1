/** Memory sizes as arguments of flags and commands. */
import { InvalidArgumentError } from '@commander-js/extra-typings';
import { parseMib } from '../api/index.ts';

/** An argument parser for commander, which puts the flag's name before the error. Returns MiB. */
export function toMib(text: string): number {
  try {
    return parseMib(text);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}
