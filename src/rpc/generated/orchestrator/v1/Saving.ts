// Original file: proto/cluster.proto


/**
 * Sent about once per second while a checkpoint is written: the disk may be slow, but it works.
 */
export interface Saving {
}

/**
 * Sent about once per second while a checkpoint is written: the disk may be slow, but it works.
 */
export interface Saving__Output {
}
