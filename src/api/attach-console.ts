/** This process's terminal on the console of a guest that runs in another process. */
import { connectControl, type ControlClient } from './control/client.ts';
import { MAX_INPUT_BYTES, type ConsoleMessage } from './control/protocol.ts';
import { ATTACHED_KEYS, type EscapeAction } from '../vmm/serial/escape-keys.ts';

export interface AttachOptions {
  /** Path of the guest's control socket. */
  readonly path: string;
  /** Whether to type. Otherwise stdin is not read, and only a signal detaches. */
  readonly write: boolean;
  /** Whether to type in place of the client that does now. */
  readonly take: boolean;
  /** Whether recent output comes first. */
  readonly history: boolean;
  /** Takes the guest's output; false: nobody reads it any more. */
  readonly show: (bytes: Uint8Array) => boolean;
  /** Takes Volt's own messages. */
  readonly say: (line: string) => void;
}

const HELP = [
  'Ctrl-A d       detach; the guest goes on',
  'Ctrl-A h       list these keys',
  'Ctrl-A Ctrl-A  send Ctrl-A to the guest',
];

/** Resolves when the guest has ended or a key detaches. Throws VoltError. */
export async function attachToConsole(options: AttachOptions): Promise<void> {
  const { path, write, take, history, show, say } = options;
  using client = await connectControl(path);
  const detached = Promise.withResolvers<void>();
  let input: { readonly isTerminal: boolean; close(): void } | undefined;
  const restoreTerminal = () => input?.close();
  process.on('exit', restoreTerminal);
  try {
    const ended = watchEnd(client, say);
    /** undefined: not known yet. */
    let mayWrite: boolean | undefined;
    const onMessage = (message: ConsoleMessage) => {
      if ('data' in message) {
        if (!show(Buffer.from(message.data, 'base64'))) detached.resolve();
      } else if ('lost' in message) {
        say(`${message.lost} bytes of output are missing here: this terminal was too slow`);
      } else {
        mayWrite = message.writer;
        say(mayWrite ? 'you type on the console again' : 'another client types on the console now');
      }
    };
    // In raw mode before the first output.
    if (write) {
      const { openConsoleInput } = await import('../vmm/serial/terminal-input.ts');
      const type = createTyper(client, () => mayWrite);
      const onKey = (action: EscapeAction) => {
        if (action === 'detach') detached.resolve();
        else HELP.forEach((line) => say(line));
      };
      input = openConsoleInput(
        type,
        onKey,
        () => say('Ctrl-A d detaches, Ctrl-A h lists the keys'),
        ATTACHED_KEYS,
      );
    }
    const { writer } = await client.attachConsole({ ...(take ? { take } : { write }), history }, onMessage);
    mayWrite = writer;
    if (write && !writer)
      say('another client types on the console, so this one only reads; --take takes over');
    await Promise.race([ended, detached.promise]);
  } finally {
    restoreTerminal();
    process.off('exit', restoreTerminal);
  }
}

/** Sends what is typed, a piece at a time; takes nothing while a piece is on its way. */
function createTyper(
  client: ControlClient,
  mayWrite: () => boolean | undefined,
): (bytes: Uint8Array) => number {
  let isBusy = false;
  const sendAll = async (bytes: Uint8Array) => {
    for (let rest = bytes; rest.length > 0 && mayWrite();) {
      const { taken } = await client.call('console-input', { data: Buffer.from(rest).toString('base64') });
      rest = rest.subarray(taken);
    }
  };
  return (bytes) => {
    if (mayWrite() === false) return bytes.length;
    if (isBusy || !mayWrite()) return 0;
    isBusy = true;
    const piece = bytes.slice(0, MAX_INPUT_BYTES);
    // Refused where another client has just taken over, or the guest has ended: both are told otherwise.
    void sendAll(piece)
      .catch(() => {})
      .finally(() => (isBusy = false));
    return piece.length;
  };
}

async function watchEnd(client: ControlClient, say: (line: string) => void): Promise<void> {
  let said = false;
  for await (const event of client.events()) {
    if (event.kind === 'rebooted') say('the guest has reset itself and starts again');
    if (event.kind !== 'ended') continue;
    say(`the guest has ended (${event.reason}), exit code ${event.exitCode}`);
    said = true;
  }
  if (!said) say("the guest's process has ended");
}
