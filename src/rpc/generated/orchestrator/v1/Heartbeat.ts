// Original file: proto/cluster.proto


export interface Heartbeat {
}

export interface Heartbeat__Output {
}
