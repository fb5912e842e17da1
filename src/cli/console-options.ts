/** `--virtio-console`, and its way into the section `virtio-consoles` of a configuration file. */
import { readWords } from '../api/index.ts';
import { dropUndefined } from './net-options.ts';

type Json = Record<string, unknown>;

export const VIRTIO_CONSOLE_HELP =
  'a port of a virtio console: socket=FILE or file=FILE, with name=NAME, tty (hvc0, …); may be given again';

/** For commander: each adds one. */
export function collectConsole(text: string, before: readonly Json[] | undefined): readonly Json[] {
  const ports = before ?? [];
  const words = readWords('--virtio-console', text, ['socket', 'file', 'name', 'tty']);
  const port = dropUndefined({
    name: words.text('name', 'NAME') ?? `port${ports.length}`,
    socket: words.text('socket', 'FILE'),
    file: words.text('file', 'FILE'),
    tty: words.flag('tty') || undefined,
  });
  return [...ports, port];
}
