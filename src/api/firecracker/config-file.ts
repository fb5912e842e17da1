/** Applies a configuration file, in Firecracker's order, with the prefixes of its errors. */
import { readFileSync } from 'node:fs';
import type { Logger } from './logger.ts';
import type { Metrics } from './metrics.ts';
import { parseConfigFile, parseTemplate } from './model/config-file.ts';
import { ActionFault } from './model/fault.ts';
import type { VmResources } from './model/resources.ts';
import { describeOsError } from './os-error.ts';

/** Sections whose errors have other prefixes than the API's. */
const PREFIXES: Readonly<Record<string, string>> = {
  'Balloon config error': 'Balloon device error',
  'Drive config error': 'Block device error',
  'Network config error': 'Network device error',
  'Machine config error': 'VM config error',
  'Vsock config error': 'Vsock device error',
  'Pmem config error': 'Pmem device error',
  'MMMDS config error': 'MMDS config error',
};

export interface ConfigFileTargets {
  readonly resources: VmResources;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** Throws JsonFault and ActionFault. */
export function applyConfigFile(bytes: Uint8Array, targets: ConfigFileTargets): void {
  const file = parseConfigFile(bytes);
  try {
    apply(file, targets);
  } catch (error) {
    if (!(error instanceof ActionFault)) throw error;
    const [prefix = '', ...rest] = error.message.split(': ');
    throw new ActionFault([PREFIXES[prefix] ?? prefix, ...rest].join(': '));
  }
}

function apply(
  file: ReturnType<typeof parseConfigFile>,
  { resources, logger, metrics }: ConfigFileTargets,
): void {
  if (file.logger) {
    try {
      logger.configure(file.logger);
    } catch (error) {
      throw error instanceof ActionFault ? new ActionFault(`Logger error: ${error.message}`) : error;
    }
  }
  if (file.metrics) metrics.configure(file.metrics);
  if (file['machine-config']) resources.updateMachine(file['machine-config']);
  const template = file['cpu-config'];
  if (typeof template === 'string') resources.setCpuTemplate(parseTemplate(readTemplate(template)));
  else if (template) resources.setCpuTemplate(template);
  resources.setBootSource(file['boot-source']);
  for (const drive of file.drives) resources.insertDrive(drive);
  for (const each of file['network-interfaces']) resources.insertInterface(each);
  if (file.vsock) resources.setVsock(file.vsock);
  if (file.balloon) resources.setBalloon(file.balloon);
  if (file['mmds-config']) resources.setMmds(file['mmds-config']);
  if (file.entropy) resources.setEntropy(file.entropy);
  for (const each of file.pmem) resources.insertPmem(each);
  if (file['memory-hotplug']) resources.setMemoryHotplug(file['memory-hotplug']);
}

function readTemplate(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new ActionFault(`File operation error: ${describeOsError(error)}`);
  }
}
