/** Who gets what from `volt web`: decisions about one request, without effects. */
import { timingSafeEqual } from 'node:crypto';

export interface Access {
  readonly token: string;
  /**
   * Values of the Host header that name this server, in lower case; `loopback`: any name of loopback, with any
   * port; `any`: for all addresses of a host, where the certificate binds the name.
   */
  readonly hosts: readonly string[] | 'loopback' | 'any';
  readonly scheme: 'http' | 'https';
}

export interface RequestHead {
  readonly host: string | null;
  readonly origin: string | null;
  readonly token: string | null;
}

/** A name that a page of another site can have resolved to this host is none of these. */
const LOOPBACK_HOST = /^(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?$/;

/** Why a request is refused with 403; undefined: it is not. */
export function refusalOf({ token, hosts, scheme }: Access, head: RequestHead): string | undefined {
  const host = head.host?.toLowerCase() ?? '';
  const isOurs = hosts === 'any' || (hosts === 'loopback' ? LOOPBACK_HOST.test(host) : hosts.includes(host));
  if (!isOurs) return 'this server has another name; use the URL that volt web printed';
  // Browsers send it with every WebSocket and every request of another site.
  if (head.origin !== null && head.origin.toLowerCase() !== `${scheme}://${host}`)
    return 'the request comes from a page of another site';
  if (head.token === null || !isSame(head.token, token))
    return 'the token is missing or wrong; use the URL that volt web printed';
  return undefined;
}

/** Compares secrets in a time that does not depend on where they differ. */
export function isSame(given: string, wanted: string): boolean {
  const [a, b] = [given, wanted].map((text) => new Bun.CryptoHasher('sha256').update(text).digest());
  return timingSafeEqual(a!, b!);
}

/** The password of `Authorization: Basic`, whatever the user's name. (RFC 7617) */
export function basicPassword(header: string | null): string | undefined {
  const encoded = /^Basic ([A-Za-z0-9+/=]{1,1024})$/i.exec(header ?? '')?.[1];
  if (encoded === undefined) return undefined;
  const text = Buffer.from(encoded, 'base64').toString('utf8');
  return text.includes(':') ? text.slice(text.indexOf(':') + 1) : undefined;
}

/** The page loads nothing and may talk to nobody but its own server. */
export function pageHeaders(scriptHash: string, access: Pick<Access, 'scheme'>, host: string) {
  const socket = `${access.scheme === 'https' ? 'wss' : 'ws'}://${host}`;
  return {
    'content-type': 'text/html; charset=utf-8',
    'content-security-policy': [
      "default-src 'none'",
      `script-src 'sha256-${scriptHash}'`,
      // xterm.js writes its own style elements; no text of a guest becomes HTML.
      "style-src 'unsafe-inline'",
      `connect-src ${socket}`,
      'img-src data:',
      "base-uri 'none'",
      "form-action 'none'",
      "frame-ancestors 'none'",
    ].join('; '),
    ...COMMON_HEADERS,
  };
}

export const COMMON_HEADERS = {
  'cache-control': 'no-store',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
} as const;
