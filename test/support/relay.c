/*
 * A network of hosts of a test (hosts.ts) in which every packet takes its time, for kernels without netem:
 *
 *   relay DEVICE DELAY_US JITTER_US NAMESPACE...
 *
 * It makes a TUN device in each network namespace, and passes what is sent to 10.77.0.N on to the N-th of them:
 * DELAY_US later and up to JITTER_US more, at random, in the order in which it was sent. What finds no room in a
 * queue is lost, as in a router.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define MOST_HOSTS 4
#define QUEUED 65536
#define MOST_BYTES (256 << 20)
#define LARGEST 65536
#define AT_ONCE 64

typedef struct {
  uint64_t due;
  uint32_t size;
  uint8_t *bytes;
} Packet;

/* What is on its way to a host. */
typedef struct {
  int fd;
  Packet packets[QUEUED];
  uint32_t first, end;
  size_t bytes;
  uint64_t last_due;
} Host;

static Host hosts[MOST_HOSTS];

static void fail(const char *what) {
  fprintf(stderr, "relay: %s: %s\n", what, strerror(errno));
  exit(1);
}

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int open_device(const char *namespace, const char *device) {
  char path[512];
  snprintf(path, sizeof path, "/run/netns/%s", namespace);
  const int inside = open(path, O_RDONLY | O_CLOEXEC);
  if (inside < 0 || setns(inside, CLONE_NEWNET) != 0) fail(path);
  close(inside);
  const int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) fail("/dev/net/tun");
  struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
  snprintf(request.ifr_name, sizeof request.ifr_name, "%s", device);
  if (ioctl(fd, TUNSETIFF, &request) != 0) fail("TUNSETIFF");
  return fd;
}

/* xorshift64: the same times in every run, as far as the packets are the same. */
static uint64_t next_random(void) {
  static uint64_t state = 88172645463325252u;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

/* The host to which an IPv4 packet is sent, or null. */
static Host *receiver_of(const uint8_t *packet, ssize_t size, int count) {
  if (size < 20 || packet[0] >> 4 != 4) return NULL;
  const int number = packet[19];
  return number >= 1 && number <= count ? &hosts[number - 1] : NULL;
}

static void queue(Host *to, const uint8_t *packet, ssize_t size, uint64_t delay, uint64_t jitter) {
  if (to->end - to->first == QUEUED || to->bytes + (size_t)size > MOST_BYTES) return;
  uint64_t due = now() + delay + (jitter == 0 ? 0 : next_random() % jitter);
  if (due < to->last_due) due = to->last_due;
  to->last_due = due;
  uint8_t *bytes = malloc((size_t)size);
  if (bytes == NULL) return;
  memcpy(bytes, packet, (size_t)size);
  to->packets[to->end++ % QUEUED] = (Packet){due, (uint32_t)size, bytes};
  to->bytes += (size_t)size;
}

/* Passes on what is due, and returns when the next packet is; UINT64_MAX: there is none. */
static uint64_t deliver(Host *to) {
  for (; to->first != to->end; to->first++) {
    Packet *packet = &to->packets[to->first % QUEUED];
    if (packet->due > now()) return packet->due;
    /* A host that is down gets nothing. */
    if (write(to->fd, packet->bytes, packet->size) < 0 && errno == EAGAIN) return packet->due;
    to->bytes -= packet->size;
    free(packet->bytes);
  }
  return UINT64_MAX;
}

int main(int argc, char **argv) {
  const int count = argc - 4;
  if (count < 1 || count > MOST_HOSTS) {
    fprintf(stderr, "usage: relay DEVICE DELAY_US JITTER_US NAMESPACE...\n");
    return 2;
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const uint64_t delay = strtoull(argv[2], NULL, 10) * 1000, jitter = strtoull(argv[3], NULL, 10) * 1000;
  struct pollfd readable[MOST_HOSTS];
  for (int i = 0; i < count; i++) {
    hosts[i].fd = open_device(argv[4 + i], argv[1]);
    readable[i] = (struct pollfd){.fd = hosts[i].fd, .events = POLLIN};
  }
  puts("ready");
  fflush(stdout);
  static uint8_t packet[LARGEST];
  for (;;) {
    uint64_t due = UINT64_MAX;
    for (int i = 0; i < count; i++) {
      const uint64_t next = deliver(&hosts[i]);
      if (next < due) due = next;
    }
    const uint64_t time = now(), wait = due > time ? due - time : 0;
    const struct timespec timeout = {(time_t)(wait / 1000000000u), (long)(wait % 1000000000u)};
    if (ppoll(readable, (nfds_t)count, due == UINT64_MAX ? NULL : &timeout, NULL) < 0 && errno != EINTR) fail("ppoll");
    for (int i = 0; i < count; i++) {
      for (int k = 0; k < AT_ONCE; k++) {
        const ssize_t size = read(hosts[i].fd, packet, sizeof packet);
        if (size <= 0) break;
        Host *to = receiver_of(packet, size, count);
        if (to != NULL) queue(to, packet, size, delay, jitter);
      }
    }
  }
}
