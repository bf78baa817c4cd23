/** Version of the messages in cluster.proto. The coordinator refuses workers with another version. */
export const PROTOCOL = 13;
