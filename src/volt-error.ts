/**
 * The error that callers of Volt catch. Its message is one line: "Cannot <action>: <found> (expected <desired>)".
 *
 * - `usage`: a flag or a combination of flags is wrong
 * - `config`: a configuration file is wrong
 * - `image`: a kernel or initrd file is wrong or does not fit the machine
 * - `host`: this host cannot do what was asked (no KVM, no memory, a file that does not open)
 * - `guest`: the running guest did what no machine can answer
 * - `internal`: a defect of Volt
 */
export type VoltErrorCode = 'usage' | 'config' | 'image' | 'host' | 'guest' | 'internal';

/** What callers of Volt catch: `code` says what kind of thing is wrong, `message` is one line made to be shown. */
export class VoltError extends Error {
  readonly code: VoltErrorCode;
  /** What the message sums up, a line each. */
  readonly details: readonly string[];

  constructor(
    code: VoltErrorCode,
    message: string,
    options?: ErrorOptions & { readonly details?: readonly string[] },
  ) {
    // Names from files and flags may hold line ends, and other characters that would steer a terminal.
    super(message.replace(/\s*[\r\n]\s*/g, ' ').replace(/[\x00-\x08\x0b-\x1f\x7f]/g, '?'), options);
    this.name = 'VoltError';
    this.code = code;
    this.details = options?.details ?? [];
  }
}
