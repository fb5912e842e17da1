/**
 * Imported first by main.ts: refuses environment variables that change the JavaScript engine, before Volt
 * relies on the engine. The build removes the names of Bun's own variables from the executable
 * (scripts/seal-executable.ts), so only these remain.
 */
import { writeSync } from 'node:fs';

const ENGINE_PREFIX = 'BUN_JSC_';
/** As for any usage error; api/ is not loaded yet. */
const EXIT_USAGE = 2;

const found = Object.keys(process.env).find((name) => name.startsWith(ENGINE_PREFIX));
if (found !== undefined) {
  writeSync(
    2,
    `volt: Cannot start with ${found.replace(/[^\w]/g, '?')} in the environment: it changes Volt's JavaScript engine; unset it\n`,
  );
  process.exit(EXIT_USAGE);
}
