/** Entry point of the `volt` executable: looks at the environment before anything else is loaded. */
import { writeSync } from 'node:fs';
import './environment.ts';

/** As for anything that this host does not allow; api/ is not loaded yet. */
const EXIT_FAILED = 1;

// Not a static import: the bundler would run what other entry points use too before the line above.
const { main } = await import('./program.ts').catch(explainLoading);
await main();

/** bun:ffi compiles a call to each C function, which takes memory that is writable and executable. */
function explainLoading(error: unknown): never {
  if (!(error instanceof Error) || !error.message.includes('requires the JIT')) throw error;
  writeSync(
    2,
    'volt: Cannot start: this process may not have executable memory; lift MemoryDenyWriteExecute (systemd), PR_SET_MDWE or ulimit -v\n',
  );
  process.exit(EXIT_FAILED);
}
