/** Turns the error that ends a command into one line on stderr, behind its details, and an exit code. */
import { EXIT_CODE, SyscallError, VoltError } from '../api/index.ts';
import { createLog, oneLine } from './log.ts';

export function fail(error: unknown): number {
  const log = createLog('error');
  if (error instanceof VoltError) {
    for (const detail of error.details) log.error(oneLine(detail));
    log.error(oneLine(error.message));
    return error.code === 'host' || error.code === 'internal' ? EXIT_CODE.failed : EXIT_CODE.usage;
  }
  if (error instanceof SyscallError) {
    log.error(oneLine(`Cannot start: ${error.message}`));
    return EXIT_CODE.failed;
  }
  log.error(
    oneLine(
      `Cannot continue: ${error instanceof Error ? error.message : String(error)}; this is a defect of Volt, please report it`,
    ),
  );
  return EXIT_CODE.failed;
}
