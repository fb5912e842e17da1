/** The address of `volt web --listen`. */
import { VoltError } from '../../volt-error.ts';

export type WebAddress =
  | { readonly kind: 'unix'; readonly path: string }
  | {
      readonly kind: 'tcp';
      readonly hostname: string;
      readonly port: number;
      /** Whether only this host can reach it. */
      readonly isLoopback: boolean;
    };

const HIGHEST_PORT = 65535;

/** `ADDRESS:PORT` with an IPv4 address, `[IPv6]:PORT`, or a path with a slash. Throws VoltError 'usage'. */
export function parseListen(text: string): WebAddress {
  if (text.includes('/')) return { kind: 'unix', path: text };
  const match = /^(?:\[([\da-f:.]+)\]|(\d{1,3}(?:\.\d{1,3}){3})):(\d{1,5})$/i.exec(text);
  const hostname = match?.[1] ?? match?.[2] ?? '';
  const port = Number(match?.[3]);
  if (!match || port > HIGHEST_PORT) {
    throw new VoltError(
      'usage',
      `Cannot use --listen ${text}: it is no address (expected 127.0.0.1:PORT, [::1]:PORT, or a path with a slash)`,
    );
  }
  const isLoopback = hostname.startsWith('127.') || /^(0*:)*:?0*1$/.test(hostname);
  return { kind: 'tcp', hostname, port, isLoopback };
}

/** Throws VoltError 'usage' for an address that others can reach without TLS and a password. */
export function checkExposure(address: WebAddress, hasTls: boolean, hasPassword: boolean): void {
  if (address.kind === 'unix' || address.isLoopback || (hasTls && hasPassword)) return;
  throw new VoltError(
    'usage',
    `Cannot use --listen ${address.hostname}:${address.port}: other hosts reach it; add --tls-cert, --tls-key and --password-file, or use 127.0.0.1`,
  );
}
