/*
 * Preloaded into the processes of a run: one bit of what they send in pieces of 64 KiB or more is flipped on its way,
 * once. The file SOCKET_FLIPPED is made then.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { LARGE = 65536, DATA = 4096 };

static int is_socket(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
}

/* The first piece that is data, and not what frames it; -1: none. */
static int data_of(const struct iovec *pieces, int count) {
  size_t all = 0;
  int found = -1;
  for (int i = 0; i < count; ++i) {
    all += pieces[i].iov_len;
    if (found < 0 && pieces[i].iov_len >= DATA) found = i;
  }
  return all >= LARGE ? found : -1;
}

/* Whether this process is the first. */
static int begins(void) {
  const char *path = getenv("SOCKET_FLIPPED");
  const int fd = path == NULL ? -1 : open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
  if (fd < 0) return 0;
  close(fd);
  return 1;
}

ssize_t writev(int fd, const struct iovec *pieces, int count) {
  ssize_t (*const send_all)(int, const struct iovec *, int) =
      (ssize_t(*)(int, const struct iovec *, int))dlsym(RTLD_NEXT, "writev");
  const int at = is_socket(fd) ? data_of(pieces, count) : -1;
  if (at < 0 || !begins()) return send_all(fd, pieces, count);
  struct iovec others[count];
  memcpy(others, pieces, sizeof others);
  char *copy = malloc(pieces[at].iov_len);
  memcpy(copy, pieces[at].iov_base, pieces[at].iov_len);
  copy[100] ^= 1;
  others[at].iov_base = copy;
  const ssize_t sent = send_all(fd, others, count);
  const int error = errno;
  free(copy);
  errno = error;
  return sent;
}
