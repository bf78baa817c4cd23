#include "open_cuda.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "../core/error.h"

namespace orch::kernels {
namespace {

constexpr const char* kName = "liborchestrator_cuda.so";

/// The folder of the program or library that contains this function.
std::string own_folder() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&own_folder), &info) == 0 || info.dli_fname == nullptr) return "";
  const std::string path = info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash + 1);
}

struct Library {
  graph::Device* (*open)(int, char*, size_t);
  bool (*list)(std::vector<graph::Device::Description>*, char*, size_t);
};

Library load() {
  const char* given = std::getenv("ORCHESTRATOR_CUDA");
  if (given != nullptr && *given == '\0') given = nullptr;
  // The addon and the library are in build/Release, the programs in build.
  std::vector<std::string> paths{own_folder() + kName, own_folder() + "Release/" + kName};
  if (given != nullptr) paths = {given};
  std::erase_if(paths, [](const std::string& path) { return access(path.c_str(), F_OK) != 0; });
  if (paths.empty())
    throw Error("ERR_CUDA",
                given ? std::string("CUDA is off: ORCHESTRATOR_CUDA names ") + given + ", which is not there"
                      : std::string("CUDA is off: ") + kName + " is not built");
  std::string why;
  for (const std::string& path : paths) {
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    void* open = library ? dlsym(library, "orchestrator_cuda_open") : nullptr;
    void* list = open ? dlsym(library, "orchestrator_cuda_list") : nullptr;
    if (list)
      return {reinterpret_cast<decltype(Library::open)>(open),
              reinterpret_cast<decltype(Library::list)>(list)};
    why += (why.empty() ? "" : "; ") + std::string(dlerror());
  }
  throw Error("ERR_CUDA", "CUDA is off: ", why);
}

const Library& library() {
  static const Library library = load();
  return library;
}

}  // namespace

std::vector<graph::Device::Description> cuda_devices() {
  std::vector<graph::Device::Description> devices;
  char message[512] = "";
  if (library().list(&devices, message, sizeof message)) return devices;
  throw Error("ERR_CUDA", "CUDA is off: ", message);
}

graph::Device& open_cuda(int ordinal) {
  char message[512] = "";
  if (graph::Device* device = library().open(ordinal, message, sizeof message)) return *device;
  throw Error("ERR_CUDA", "CUDA is off: ", message);
}

}  // namespace orch::kernels
