/** The host bridge: device 0 of bus 0. Software recognises it by its class; it has no registers of its own. */
import { buildFunction } from './config-builder.ts';
import type { FunctionShape } from './function-state.ts';

/** Intel's id for a virtual host bridge, for which Linux has no workarounds of real chipsets. */
const IDENTITY = { vendorId: 0x8086, deviceId: 0x0d57, revision: 0, classCode: 0x06_00_00 };

export function hostBridgeShape(): FunctionShape {
  return buildFunction({ identity: IDENTITY });
}
