/** The handler of page faults in examples/, for tests. */
import { join } from 'node:path';
import { createUserfault } from '../../../src/ffi/userfault.ts';

function lacksUserfault(): string {
  try {
    createUserfault(0).close();
    return '';
  } catch {
    return ' (needs the right to use userfaultfd)';
  }
}

/** For the name of a test; empty if this user has the right. */
export const LACKS_USERFAULT = lacksUserfault();

/** The handler of examples/, which is about to accept a connection. */
export async function startMemoryHandler(path: string, file: string) {
  const handler = Bun.spawn(
    [process.execPath, join(import.meta.dir, '../../../examples/memory-handler.ts'), path, file],
    { stdout: 'pipe', stderr: 'inherit', env: { ...process.env, BUN_BE_BUN: '1' } },
  );
  const reader = handler.stdout.getReader();
  const first = await reader.read();
  if (Buffer.from(first.value ?? []).toString() !== 'listening\n')
    throw new Error('the handler did not start');
  const rest = async () => {
    let text = '';
    for (let next = await reader.read(); !next.done; next = await reader.read())
      text += Buffer.from(next.value).toString();
    return text;
  };
  return { handler, rest, [Symbol.dispose]: () => handler.kill() };
}
