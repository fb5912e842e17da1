/** `volt ctl PID gdb`: gdb at stdin and stdout, the guest at its control socket. */
import { connectControl } from '../api/index.ts';
import { writeBytes } from './output.ts';

/** Resolves when either side has closed its end. */
export async function bridgeGdb(socket: string): Promise<void> {
  // Ctrl-C is for gdb, which interrupts the guest by a byte of its protocol.
  process.on('SIGINT', () => {});
  using client = await connectControl(socket);
  const connection = await client.startGdb((chunk) => {
    if (!writeBytes(chunk)) client.close();
  });
  await Promise.race([connection.ended, copyInput(connection.write)]);
}

async function copyInput(write: (bytes: Uint8Array) => void): Promise<void> {
  for await (const chunk of Bun.stdin.stream()) write(chunk);
}
