// Original file: proto/cluster.proto


/**
 * From `init` or the seed of the configuration.
 */
export interface Initialise {
}

/**
 * From `init` or the seed of the configuration.
 */
export interface Initialise__Output {
}
