// Original file: proto/cluster.proto


/**
 * What the receiver holds.
 */
export interface Keep {
}

/**
 * What the receiver holds.
 */
export interface Keep__Output {
}
