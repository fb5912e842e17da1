/** The configuration of a guest, as it runs or as it is defined. */
export { completeConfig } from '../../config/complete-config.ts';
import { parseConfig, type ConfigInput, type VmConfig } from '../../config/config.ts';
import { callOnce } from '../control/client.ts';

/** The whole configuration of the running guest whose control socket is at `path`. Throws VoltError. */
export async function readRunningConfig(path: string): Promise<ConfigInput> {
  const { config } = await callOnce(path, 'config', {});
  return config;
}

/** The same, validated here: any process may listen at a path. */
export async function parseRunningConfig(path: string): Promise<VmConfig> {
  return parseConfig(await readRunningConfig(path)).config;
}
