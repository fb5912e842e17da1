/** Answers in the bytes of Firecracker's HTTP server: no reason phrase, and fields in its order. */
import type { HttpVersion } from './request-parser.ts';

export interface ApiResponse {
  readonly status: 200 | 204 | 400 | 413;
  readonly body?: string | undefined;
  /** With the field `Deprecation`. (draft-dalal-deprecation-header-03) */
  readonly deprecated?: boolean | undefined;
}

/** To the eleventh client; the connection is closed behind it. */
export const SERVER_FULL =
  'HTTP/1.1 503\r\nServer: Firecracker API\r\nConnection: close\r\nContent-Length: 40\r\n\r\n{ "error": "Too many open connections" }';

export function formatResponse({ status, body, deprecated = false }: ApiResponse): string {
  return format('HTTP/1.1', status, deprecated, body);
}

/** Leave to send the body of a request. (RFC 9110 §15.2.1) */
export function formatContinue(version: HttpVersion): string {
  return format(version, 100, false, undefined);
}

/** The answer to bytes that are no request. */
export function formatFault(message: string): string {
  return formatResponse({
    status: 400,
    body: `{ "error": "${message}\nAll previous unanswered requests will be dropped." }`,
  });
}

/** The answer to a request that is refused or fails. */
export function faultResponse(message: string, status: 400 | 413 = 400): ApiResponse {
  return { status, body: JSON.stringify({ fault_message: message }) };
}

function format(version: HttpVersion, status: number, deprecated: boolean, body: string | undefined): string {
  const content =
    body === undefined
      ? ''
      : `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n`;
  const deprecation = deprecated ? 'Deprecation: true\r\n' : '';
  return `${version} ${status} \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n${deprecation}${content}\r\n${body ?? ''}`;
}
