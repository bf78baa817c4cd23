// Original file: proto/cluster.proto


/**
 * The run was asked to stop, and ends after the step that is being computed: a validation in progress is
 * abandoned. May come at any time after Start.
 */
export interface Drain {
}

/**
 * The run was asked to stop, and ends after the step that is being computed: a validation in progress is
 * abandoned. May come at any time after Start.
 */
export interface Drain__Output {
}
