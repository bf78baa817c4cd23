/** Who else can read a secret: by the mode of the file that it is read from or written to. */
import { fstatSync, readlinkSync } from 'node:fs';

/** Reading by the group, and by everybody. */
const OTHERS = 0o044;

/**
 * Why a secret is none behind an open file, and what to do; null where only its user can read it, or it is no regular
 * file, such as a pipe.
 *
 * @param fd Of the file.
 */
export function othersCanRead(fd: number): string | null {
  const stat = fstatSync(fd);
  if (!stat.isFile() || (stat.mode & OTHERS) === 0) return null;
  const path = readlinkSync(`/proc/self/fd/${fd}`);
  const mode = (stat.mode & 0o777).toString(8).padStart(4, '0');
  return `others can read the credential, which is a secret: ${path} has the mode ${mode}; \`chmod 600\` it, or use \`umask 077\` before it is made`;
}
