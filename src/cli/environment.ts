/**
 * Imported before anything else by main.ts: an environment that would change the JavaScript engine under Volt is
 * refused before Volt relies on that engine. The build takes the names of Bun's own variables out of the executable
 * (scripts/seal-executable.ts), so that these are all that is left.
 */
import { writeSync } from 'node:fs';

const ENGINE_PREFIX = 'BUN_JSC_';
/** As for any usage error; api/ is not loaded yet. */
const EXIT_USAGE = 2;

const found = Object.keys(process.env).find((name) => name.startsWith(ENGINE_PREFIX));
if (found !== undefined) {
  writeSync(
    2,
    `volt: Cannot start with ${found.replace(/[^\w]/g, '?')} in the environment: it changes the engine that Volt runs on (expected it unset)\n`,
  );
  process.exit(EXIT_USAGE);
}
