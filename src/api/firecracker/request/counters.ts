/** Counters of requests, by Firecracker's names in its metrics, in the order in which it prints them. */
export const API_COUNTERS = {
  deprecated_api: ['deprecated_http_api_calls'],
  get_api_requests: [
    'instance_info_count',
    'machine_cfg_count',
    'mmds_count',
    'vmm_version_count',
    'hotplug_memory_count',
  ],
  patch_api_requests: [
    'drive_count',
    'drive_fails',
    'network_count',
    'network_fails',
    'machine_cfg_count',
    'machine_cfg_fails',
    'mmds_count',
    'mmds_fails',
    'hotplug_memory_count',
    'hotplug_memory_fails',
    'pmem_count',
    'pmem_fails',
  ],
  put_api_requests: [
    'actions_count',
    'actions_fails',
    'boot_source_count',
    'boot_source_fails',
    'drive_count',
    'drive_fails',
    'logger_count',
    'logger_fails',
    'machine_cfg_count',
    'machine_cfg_fails',
    'cpu_cfg_count',
    'cpu_cfg_fails',
    'metrics_count',
    'metrics_fails',
    'network_count',
    'network_fails',
    'mmds_count',
    'mmds_fails',
    'vsock_count',
    'vsock_fails',
    'pmem_count',
    'pmem_fails',
    'serial_count',
    'serial_fails',
    'hotplug_memory_count',
    'hotplug_memory_fails',
  ],
} as const;

/** `group.name` */
export type ApiCounter = {
  [Group in keyof typeof API_COUNTERS]: `${Group}.${(typeof API_COUNTERS)[Group][number]}`;
}[keyof typeof API_COUNTERS];
