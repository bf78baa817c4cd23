// Original file: proto/cluster.proto


/**
 * The worker has done everything requested.
 */
export interface Finished {
}

/**
 * The worker has done everything requested.
 */
export interface Finished__Output {
}
