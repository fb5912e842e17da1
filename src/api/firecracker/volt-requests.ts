/**
 * What Volt does beyond Firecracker, behind the same API: `/volt/METHOD` calls a method of the control protocol while the
 * guest runs, and `/volt/config` sets before its start what Firecracker's requests cannot say. docs/volt-api.json describes
 * them. Loaded with the first such request.
 */
import { createDispatch, toRpcError, type Dispatch } from '../control/dispatch.ts';
import { parseRequest } from '../control/protocol.ts';
import { VOLT_METHODS, type VoltMethod } from '../control/volt-methods.ts';
import { VoltError } from '../../volt-error.ts';
import type { VmControl } from '../vm-control.ts';
import { faultResponse, type ApiResponse } from './http/response.ts';
import type { ApiRequest } from './request/parse.ts';

interface VoltRequestTarget {
  /** undefined: the guest has not started. */
  readonly control: VmControl | undefined;
  setExtras(extras: Readonly<Record<string, unknown>>): void;
}

const dispatchers = new WeakMap<VmControl, Dispatch>();
/** Calls over this API have no files. */
const NO_FILES = {
  ask: () => Promise.reject(new VoltError('usage', 'Cannot take files over this API; use a control socket')),
  onGone: () => () => {},
};

export async function answerVoltRequest(
  { method, path, body }: ApiRequest,
  target: VoltRequestTarget,
): Promise<ApiResponse> {
  const name = path.slice('/volt/'.length);
  if (method !== 'GET' && method !== 'PUT')
    return faultResponse(`Invalid request method and/or path: ${method} ${path}.`);
  const params = body ? parseObject(body) : {};
  if (!params) return faultResponse('The body is no JSON object.');
  if (name === 'config') return configure(params, target);
  if (!VOLT_METHODS.includes(name as VoltMethod))
    return faultResponse(`Invalid request method and/or path: ${method} ${path}.`);
  const { control } = target;
  if (!control) return faultResponse('The requested operation is not supported before starting the microVM.');
  return call(control, name, params);
}

function configure(params: Readonly<Record<string, unknown>>, target: VoltRequestTarget): ApiResponse {
  if (target.control)
    return faultResponse('The requested operation is not supported after starting the microVM.');
  target.setExtras(params);
  return { status: 204 };
}

async function call(control: VmControl, method: string, params: object): Promise<ApiResponse> {
  const line = Buffer.from(JSON.stringify({ jsonrpc: '2.0', id: 0, method, params }));
  const incoming = parseRequest(line);
  if (incoming.kind === 'refused') return faultResponse(incoming.error.message);
  const dispatch = dispatchers.get(control) ?? createDispatch(control);
  dispatchers.set(control, dispatch);
  try {
    // The methods of a connection are not among VOLT_METHODS.
    const result = await dispatch(incoming.call as Parameters<Dispatch>[0], NO_FILES as never);
    return { status: 200, body: JSON.stringify(result ?? null) };
  } catch (error) {
    return faultResponse(toRpcError(error).message);
  }
}

function parseObject(body: Uint8Array): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(body).toString('utf8'));
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
    return isObject ? (value as Readonly<Record<string, unknown>>) : undefined;
  } catch {
    return undefined;
  }
}
