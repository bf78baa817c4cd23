// Original file: proto/cluster.proto


/**
 * The peers' data addresses answer.
 */
export interface Formed {
}

/**
 * The peers' data addresses answer.
 */
export interface Formed__Output {
}
