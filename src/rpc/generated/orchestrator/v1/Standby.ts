// Original file: proto/cluster.proto


/**
 * The worker has opened the data and built its engine, and may be given a rank.
 */
export interface Standby {
}

/**
 * The worker has opened the data and built its engine, and may be given a rank.
 */
export interface Standby__Output {
}
