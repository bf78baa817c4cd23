/*
 * Preloaded into the processes of a run: what they write into a file whose path contains DISK_PATH goes as
 * DISK_FAULT says: "EIO" = it cannot be flushed; "slow" = flushing it waits until the file DISK_RELEASE exists;
 * "flips" = its first byte is stored with another bit.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int meant(int fd, const char *fault) {
  char link[64], path[4096];
  const char *part = getenv("DISK_PATH"), *wanted = getenv("DISK_FAULT");
  if (part == NULL || wanted == NULL || strcmp(wanted, fault) != 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = '\0';
  return strstr(path, part) != NULL;
}

int fsync(int fd) {
  int (*const flush)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  if (meant(fd, "EIO")) {
    errno = EIO;
    return -1;
  }
  if (meant(fd, "slow"))
    while (access(getenv("DISK_RELEASE"), F_OK) != 0) usleep(1000);
  return flush(fd);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset) {
  ssize_t (*const write_at)(int, const void *, size_t, off64_t) =
      (ssize_t(*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
  if (offset == 0 && size > 0 && meant(fd, "flips")) {
    const char other = *(const char *)bytes ^ 1;
    return write_at(fd, &other, 1, 0);
  }
  return write_at(fd, bytes, size, offset);
}

/* The same, for a C library that has only one of the two. */
ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset) {
  return pwrite64(fd, bytes, size, offset);
}
