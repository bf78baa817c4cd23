/**
 * Largest message of the control plane, in bytes. The coordinator reads a message in one turn of its event loop, in
 * which it serves nobody else.
 */
export const CONTROL_MESSAGE_BYTES = 16 * 1024 * 1024;
