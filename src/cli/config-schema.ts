/** `volt config-schema`: the JSON Schema of configuration files, which the build has made. */
import { EXIT_CODE, VoltError } from '../api/index.ts';
import { writeStdout } from './output.ts';

export async function configSchema(): Promise<number> {
  // A source tree after npm ci has none yet.
  const { default: text } = await import('../../build/config-schema.txt', { with: { type: 'text' } }).catch(
    (cause: unknown) => {
      throw new VoltError('host', 'Cannot print the schema: it is not built; run npm run build', { cause });
    },
  );
  writeStdout(text);
  return EXIT_CODE.ok;
}
