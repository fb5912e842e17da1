/** Calls the VM for a validated request, and converts its exceptions to protocol errors. */
import { SyscallError } from '../../ffi/errno.ts';
import { SerialQueue } from '../../runtime/serial-queue.ts';
import { VoltError } from '../../volt-error.ts';
import { ERROR_CODE, type Call, type RpcError } from './protocol.ts';
import type { CallingClient, ControlTarget } from './target.ts';

const DONE = { ok: true } as const;

/** Methods that the connection handles, which owns what they subscribe to, or becomes gdb's. */
type OfConnection = 'events' | 'console' | 'console-input' | 'gdb';
/** Calls a method of the VM. */
export type Dispatch = (
  call: Exclude<Call, { method: OfConnection }>,
  client: CallingClient,
) => Promise<unknown>;

/**
 * One dispatcher serves all clients of a VM. Calls that change or stop vCPUs run one at a time, in the order
 * in which they arrive; `status`, `vcpus`, `stop` and `snapshot` never wait for them.
 */
export function createDispatch(target: ControlTarget): Dispatch {
  const queue = new SerialQueue();
  return async (call, client) => {
    switch (call.method) {
      case 'status':
        return target.status();
      case 'config':
        return target.config();
      case 'timeline':
        return target.timeline();
      case 'vcpus':
        if (call.params.sample ?? true) await target.sample?.();
        return target.vcpus();
      case 'devices':
        return target.devices();
      case 'memory':
        return target.memory(call.params.mib);
      case 'balloon':
        return target.balloon(call.params.mib);
      case 'stop':
        await target.stop();
        return DONE;
      case 'cpus':
        // Not queued: the guest may take long, and other calls must not wait for it.
        return target.setCpuCount(call.params.count);
      case 'plug':
        return target.plug(call.params, client);
      case 'unplug':
        return target.unplug(call.params.id);
      case 'snapshot':
        // Not queued: it takes long, and pauses the guest by the VM's own queue.
        return target.snapshot(call.params, client);
      case 'dump':
        // The same.
        return target.dump(client);
      case 'trace':
        return target.trace(call.params.seconds, client);
      case 'regs':
        return queue.run(() => target.registers(call.params.vcpu));
      default:
        await queue.run(() => change(target, call));
        return DONE;
    }
  };
}

type Change = Extract<
  Call,
  { method: 'pause' | 'resume' | 'ipi' | 'nmi' | 'start-ap' | 'affinity' | 'nice' | 'mp-state' | 'powerdown' }
>;

function change(target: ControlTarget, { method, params }: Change): unknown {
  switch (method) {
    case 'pause':
      return target.pause(params.vcpus);
    case 'resume':
      return target.resume(params.vcpus);
    case 'ipi':
      return target.sendIpi(params);
    case 'nmi':
      return target.sendIpi({ destination: params.vcpu ?? 'all', mode: 'nmi' });
    case 'start-ap':
      return target.startAp(params.vcpu, params.vector);
    case 'affinity':
      return target.setAffinity(params.vcpu, params.cpus);
    case 'nice':
      return target.setNice(params.vcpu, params.nice);
    case 'powerdown':
      return target.powerDown();
    case 'mp-state':
      return target.setMpState(params.vcpu, params.state, params.vector);
  }
}

export function toRpcError(error: unknown): RpcError {
  if (error instanceof VoltError) {
    return { code: ERROR_CODE.refused, message: oneLine(error.message), data: { code: error.code } };
  }
  if (error instanceof SyscallError) {
    return {
      code: ERROR_CODE.refused,
      message: oneLine(`Cannot do that: ${error.message}`),
      data: { code: 'host' },
    };
  }
  const message = error instanceof Error ? error.message : String(error);
  return {
    code: ERROR_CODE.internal,
    message: oneLine(`Cannot continue: ${message}; this is a defect of Volt, please report it`),
  };
}

function oneLine(message: string): string {
  return message.replace(/\s*\n\s*/g, ' ');
}
