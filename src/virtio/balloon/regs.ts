/** The memory balloon device. (Virtual I/O Device 1.2 §5.5) */

/** Feature bits. (§5.5.3) */
export const BALLOON_FEATURE = {
  mustTellHost: 0,
  statsVq: 1,
  deflateOnOom: 2,
  freePageHint: 3,
  pagePoison: 4,
  pageReporting: 5,
} as const;

/** Configuration space. (§5.5.4) */
export const BALLOON_CONFIG = { pageCount: 0, actual: 4, freePageHintId: 8, poison: 12, size: 16 } as const;
/** Further queues follow; Linux gives those of features that were not negotiated no index. (§5.5.2) */
export const BALLOON_QUEUE = { inflate: 0, deflate: 1 } as const;

/** Page numbers count units of 4 KiB, whatever the guest's page size. (§5.5.6) */
export const BALLOON_PAGE_BYTES = 4096;

/** `struct virtio_balloon_stat`: a u16 tag, then a u64 value. (§5.5.6.3) */
export const BALLOON_STAT = { tag: 0, value: 2, size: 10 } as const;

/** Names by tag, as Firecracker calls the statistics. (§5.5.6.4) */
export const BALLOON_STAT_NAMES = [
  'swap_in',
  'swap_out',
  'major_faults',
  'minor_faults',
  'free_memory',
  'total_memory',
  'available_memory',
  'disk_caches',
  'hugetlb_allocations',
  'hugetlb_failures',
] as const;
