// Memory that processes share: what another process names is opened only if it is that.
#include "../core/shared_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "data_files.h"
#include "harness.h"

using namespace orch;
using test::check_throws;

namespace {

TEST("shared file: a process maps the memory of another, and nothing else that it names") {
  SharedFile own;
  own.map(0, 4096).as<char>()[0] = 'x';
  const SharedFile other(getpid(), own.descriptor());
  CHECK(other.map(0, 4096).as<char>()[0] == 'x');

  const auto refuses = [](int descriptor) {
    check_throws("ERR_SHARED_MEMORY", "is not the shared memory of a worker",
                 [&] { SharedFile(getpid(), descriptor); });
    close(descriptor);
  };
  refuses(open("/dev/zero", O_RDWR | O_CLOEXEC));
  refuses(memfd_create("other", MFD_CLOEXEC));
  int ends[2];
  CHECK(pipe2(ends, O_CLOEXEC) == 0);
  refuses(ends[0]);
  close(ends[1]);
  check_throws("ERR_EXCHANGE", "has ended", [] { SharedFile(getpid(), 999'999); });
}

}  // namespace
