/** A guest that a host-side script talks to while it runs. Such scripts run where Linux guests can: in the nested host. */

export interface GuestSession {
  readonly pid: number;
  /** What the guest printed so far. */
  text(): string;
  /** Resolves when the guest has printed `wanted`. Throws when it ends first, or `seconds` pass. */
  until(wanted: string, seconds?: number): Promise<void>;
  readonly ended: Promise<number>;
}

export function startGuest(argv: readonly string[]): GuestSession {
  const child = Bun.spawn([...argv], { stdin: 'ignore', stdout: 'pipe', stderr: 'inherit' });
  let text = '';
  let over = false;
  const decoder = new TextDecoder();
  const reading = (async () => {
    for await (const bytes of child.stdout) text += decoder.decode(bytes, { stream: true });
  })();
  const ended = Promise.all([child.exited, reading]).then(([exitCode]) => {
    over = true;
    return exitCode;
  });
  const waitFor = async (wanted: string, seconds = 60) => {
    for (let waited = 0; !text.includes(wanted); waited += 0.05) {
      if (over || waited > seconds)
        throw new Error(`The guest did not say ${wanted}; it said:\n${text.slice(-3000)}`);
      await Bun.sleep(50);
    }
  };
  return { pid: child.pid, text: () => text, until: waitFor, ended };
}

/** Asks until `done` says so. Throws after `seconds`. */
export async function poll<T>(
  ask: () => T | Promise<T>,
  done: (answer: T) => boolean,
  seconds = 60,
): Promise<T> {
  for (let waited = 0; ; waited += 0.2) {
    const answer = await ask();
    if (done(answer)) return answer;
    if (waited > seconds) throw new Error(`It stayed at ${JSON.stringify(answer)}`);
    await Bun.sleep(200);
  }
}
