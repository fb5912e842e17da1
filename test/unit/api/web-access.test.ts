/** Who may open the page of `volt web`. */
import { describe, expect, test } from 'bun:test';
import { basicPassword, isSame, pageHeaders, refusalOf, type Access } from '../../../src/api/web/access.ts';
import { checkExposure, parseListen } from '../../../src/api/web/listen-address.ts';
import { voltErrorOf } from '../support/errors.ts';

const TOKEN = 'a-token';
const TCP: Access = { token: TOKEN, hosts: ['127.0.0.1:8006', 'localhost:8006'], scheme: 'http' };
const UNIX: Access = { ...TCP, hosts: 'loopback' };
const head = (host: string | null, origin: string | null = null, token: string | null = TOKEN) => ({
  host,
  origin,
  token,
});

describe('a request is served', () => {
  test.each([
    [TCP, head('127.0.0.1:8006')],
    [TCP, head('LOCALHOST:8006', 'http://localhost:8006')],
    [UNIX, head('localhost:1234', 'http://localhost:1234')],
    [UNIX, head('[::1]:9')],
    [{ ...TCP, hosts: 'any', scheme: 'https' } as const, head('host.example', 'https://host.example')],
  ])('%j %j', (access, request) => {
    expect(refusalOf(access, request)).toBeUndefined();
  });
});

describe('a request is refused', () => {
  test.each([
    ['another host', TCP, head('evil.example:8006')],
    ['another port', TCP, head('127.0.0.1:8007')],
    ['no host', TCP, head(null)],
    ['a host that only begins like loopback', UNIX, head('localhost.evil.example')],
    ['another origin', TCP, head('127.0.0.1:8006', 'http://evil.example')],
    ['the origin of another port', TCP, head('127.0.0.1:8006', 'http://127.0.0.1:9')],
    ['an opaque origin', TCP, head('127.0.0.1:8006', 'null')],
    ['another scheme', TCP, head('127.0.0.1:8006', 'https://127.0.0.1:8006')],
    ['no token', TCP, head('127.0.0.1:8006', null, null)],
    ['a wrong token', TCP, head('127.0.0.1:8006', null, 'a-tokem')],
    ['a longer token', TCP, head('127.0.0.1:8006', null, `${TOKEN}x`)],
  ])('with %s', (_what, access, request) => {
    expect(refusalOf(access, request)).toBeString();
  });
});

describe('addresses', () => {
  test.each([
    ['127.0.0.1:0', { kind: 'tcp', hostname: '127.0.0.1', port: 0, isLoopback: true }],
    ['127.9.9.9:80', { kind: 'tcp', hostname: '127.9.9.9', port: 80, isLoopback: true }],
    ['[::1]:80', { kind: 'tcp', hostname: '::1', port: 80, isLoopback: true }],
    ['[::]:80', { kind: 'tcp', hostname: '::', port: 80, isLoopback: false }],
    ['0.0.0.0:80', { kind: 'tcp', hostname: '0.0.0.0', port: 80, isLoopback: false }],
    ['./web.sock', { kind: 'unix', path: './web.sock' }],
  ])('%s', (text, expected) => {
    expect(parseListen(text)).toEqual(expected as never);
  });

  test.each(['8006', 'localhost:8006', '127.0.0.1', '127.0.0.1:65536', ''])('%p is refused', (text) => {
    expect(voltErrorOf(() => parseListen(text)).message).toStartWith(
      `Cannot use --listen ${text}: it is no address`,
    );
  });

  test.each([
    [false, false],
    [true, false],
    [false, true],
  ])('others reach only with TLS (%p) and a password (%p)', (hasTls, hasPassword) => {
    const others = parseListen('192.0.2.1:80');

    expect(voltErrorOf(() => checkExposure(others, hasTls, hasPassword)).message).toContain(
      'other hosts reach it',
    );
    expect(() => checkExposure(others, true, true)).not.toThrow();
    expect(() => checkExposure(parseListen('127.0.0.1:80'), hasTls, hasPassword)).not.toThrow();
  });
});

test('secrets are compared as a whole', () => {
  expect([isSame('abc', 'abc'), isSame('abc', 'abd'), isSame('', 'abc')]).toEqual([true, false, false]);
});

test.each([
  [`Basic ${btoa('volt:pass:word')}`, 'pass:word'],
  [`Basic ${btoa('nothing')}`, undefined],
  ['Bearer x', undefined],
  [null, undefined],
])('the password of %p is %p', (header, password) => {
  expect(basicPassword(header)).toBe(password as string);
});

test('the page may connect to its own server, and to nothing else', () => {
  const policy = pageHeaders('HASH', { scheme: 'https' }, 'host.example')['content-security-policy'];

  expect(policy).toContain("default-src 'none'");
  expect(policy).toContain('connect-src wss://host.example;');
  expect(policy).toContain("script-src 'sha256-HASH'");
});
