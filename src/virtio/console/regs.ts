/** The console device. (Virtual I/O Device 1.2 §5.3) */

/** Feature bits. (§5.3.3) */
export const CONSOLE_FEATURE = { multiport: 1 } as const;

/** Configuration space. (§5.3.4) */
export const CONSOLE_CONFIG = { columns: 0, rows: 2, maxPorts: 4, emergencyWrite: 8, size: 12 } as const;

/** Queues in pairs, receive and transmit: port 0, control messages, ports 1, 2, … (§5.3.2) */
export const CONSOLE_CONTROL_QUEUE = { receive: 2, transmit: 3 } as const;

/** `struct virtio_console_control` (§5.3.6.2) */
export const CONSOLE_CONTROL = { port: 0, event: 4, value: 6, size: 8 } as const;

/** VIRTIO_CONSOLE_… events of control messages. (§5.3.6.2) */
export const CONSOLE_EVENT = {
  deviceReady: 0,
  portAdd: 1,
  portRemove: 2,
  portReady: 3,
  consolePort: 4,
  resize: 5,
  portOpen: 6,
  portName: 7,
} as const;

export const MAX_CONSOLE_PORTS = 16;
