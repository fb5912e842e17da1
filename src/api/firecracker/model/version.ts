/** What the personas say they are: the Firecracker whose API they have. */
export const FIRECRACKER_VERSION = '1.17.0-dev';
/** Version of the format that `--snapshot-version` prints. */
export const SNAPSHOT_VERSION = '11.0.0';
