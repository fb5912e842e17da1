/**
 * Saves a guest while it runs, and lets two clones of it go on side by side.
 *
 * Usage: npx bun examples/clone.ts
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseConfig, readConsole, restore, VirtualMachine } from 'volt';

/** Starts it and resolves with its next heartbeat. */
async function nextBeat(vm: VirtualMachine, after = 0): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  let text = '';
  readConsole(vm, (bytes) => {
    text += Buffer.from(bytes).toString('latin1');
    const beat = Number([...text.matchAll(/heartbeat (\d+):/g)].at(-1)?.[1] ?? 0);
    if (beat > after) resolve(beat);
  });
  vm.start();
  return promise;
}

const { config } = parseConfig({
  'boot-source': { boot_args: 'loop' },
  'machine-config': { vcpu_count: 2, mem_size_mib: 64 },
});
const directory = mkdtempSync(join(tmpdir(), 'volt-example-'));
try {
  using guest = new VirtualMachine(config);
  await nextBeat(guest);
  const { memoryBytes, liveRounds } = await guest.snapshot(directory, { live: true, stop: true });
  console.log(`saved ${memoryBytes / 2 ** 20} MiB, copied while the guest ran: ${liveRounds > 0}`);
  console.log(`ended: ${(await guest.ended).kind}`);

  using one = await restore(directory);
  using two = await restore(directory);
  const beats = await Promise.all([one, two].map((clone) => nextBeat(clone)));
  console.log(`two clones go on at the same heartbeat: ${beats[0] === beats[1] && beats[0]! > 1}`);
} finally {
  rmSync(directory, { recursive: true });
}
