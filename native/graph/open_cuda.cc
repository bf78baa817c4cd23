#include <dlfcn.h>

#include <cstdlib>
#include <string>

#include "../core/error.h"
#include "device.h"

namespace orch::graph {
namespace {

constexpr const char* kName = "liborchestrator_cuda.so";

/// The folder of the program or library that holds this function.
std::string own_folder() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&own_folder), &info) == 0 || info.dli_fname == nullptr) return "";
  const std::string path = info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash + 1);
}

using Open = Device* (*)(int, char*, size_t);

Open load() {
  const char* given = std::getenv("ORCHESTRATOR_CUDA");
  const std::string missing = ORCH_CUDA_MISSING;
  if (given == nullptr && !missing.empty()) throw Error("ERR_CUDA", "CUDA is off: " + missing);
  std::string why;
  // The addon lies in build/Release, the library in build.
  for (const std::string& path : given ? std::vector<std::string>{given}
                                       : std::vector{own_folder() + kName, own_folder() + "../" + kName}) {
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    void* open = library ? dlsym(library, "orchestrator_cuda_open") : nullptr;
    if (open) return reinterpret_cast<Open>(open);
    why += (why.empty() ? "" : "; ") + std::string(dlerror());
  }
  throw Error("ERR_CUDA", "CUDA is off: " + why);
}

}  // namespace

Device& open_cuda(int ordinal) {
  static const Open open = load();
  char message[512] = "";
  if (Device* device = open(ordinal, message, sizeof message)) return *device;
  throw Error("ERR_CUDA", std::string("CUDA is off: ") + message);
}

}  // namespace orch::graph
