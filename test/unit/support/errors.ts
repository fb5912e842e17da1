import { VoltError } from '../../../src/volt-error.ts';

/** The message of the VoltError that `act` throws; anything else that it throws, or nothing, fails the test. */
export function voltErrorOf(act: () => unknown): { code: string; message: string } {
  try {
    act();
  } catch (error) {
    if (error instanceof VoltError) return { code: error.code, message: error.message };
    throw error;
  }
  throw new Error('Expected a VoltError, but nothing was thrown');
}

/** What `act` throws that is no VoltError; undefined when it returns or throws one. For fuzzing. */
export function strayErrorOf(act: () => unknown): unknown {
  try {
    act();
  } catch (error) {
    return error instanceof VoltError ? undefined : error;
  }
  return undefined;
}
