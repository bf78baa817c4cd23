# CUDA targets, built on request only:
# - orchestrator_cuda: a shared library, opened at run time; needs a CUDA toolkit (13) with cuBLASLt.
# - cuda_kernels: the kernels alone; needs nvcc.
# - orchestrator_cuda_emulated: the kernels compiled for the CPU, for the tests.
# The cache variables ORCH_CUDA_MISSING and ORCH_NVCC_MISSING say why the first or the second cannot be built.
#
# The libraries may be part of a toolkit or Python packages (nvidia-cublas, nvidia-cudnn-cu13): folders with
# include/ and lib/, such as .../site-packages/nvidia/cu13. They are found in ORCH_CUDA_ROOTS (a CMake list
# here, separated by colons in the environment) or in the packages of the Python in PATH.
set(ORCH_CUDA_ROOTS "" CACHE STRING "folders with include/ and lib/ of CUDA libraries, in addition to the toolkit's own")
set(CUDA_SOURCES ${CMAKE_SOURCE_DIR}/native/kernels/cuda)
file(GLOB CUDA_KERNELS CONFIGURE_DEPENDS ${CUDA_SOURCES}/*.cu)
file(GLOB CUDA_HEADERS CONFIGURE_DEPENDS ${CUDA_SOURCES}/*.h native/core/*.h native/graph/*.h native/kernels/*.h native/optim/*.h)

# The kernels for the CPU. g++ does not know nvcc's pragmas.
set(CUDA_EMULATED_SOURCES)
foreach(kernel ${CUDA_KERNELS})
  get_filename_component(name ${kernel} NAME_WE)
  set(copy ${CMAKE_BINARY_DIR}/cuda-emulated/${name}.cc)
  file(GENERATE OUTPUT ${copy} CONTENT "#include \"${kernel}\"\n")
  list(APPEND CUDA_EMULATED_SOURCES ${copy})
endforeach()
file(GLOB CUDA_EMULATOR CONFIGURE_DEPENDS ${CUDA_SOURCES}/emulated/*.cc)
add_library(orch_cuda_emulated STATIC EXCLUDE_FROM_ALL ${CUDA_EMULATED_SOURCES} ${CUDA_EMULATOR}
            ${CUDA_SOURCES}/limits.cc)
target_include_directories(orch_cuda_emulated PRIVATE native)
target_compile_options(orch_cuda_emulated PRIVATE -Wno-unknown-pragmas -Wno-unused-parameter)
# The same entry points as orchestrator_cuda, for tests of the layers above; ORCHESTRATOR_CUDA names it.
add_library(orchestrator_cuda_emulated SHARED EXCLUDE_FROM_ALL ${CUDA_SOURCES}/entry.cc)
target_link_libraries(orchestrator_cuda_emulated PRIVATE orch_cuda_emulated)
target_link_options(orchestrator_cuda_emulated PRIVATE -Wl,-Bsymbolic -Wl,--no-undefined)

set(missing "")
find_program(CUDA_COMPILER nvcc HINTS ENV CUDACXX ENV CUDA_HOME /usr/local/cuda PATH_SUFFIXES bin)
if(NOT CUDA_COMPILER)
  set(missing "there is no nvcc")
else()
  execute_process(COMMAND ${CUDA_COMPILER} --version OUTPUT_VARIABLE version ERROR_QUIET)
  string(REGEX MATCH "release ([0-9]+)" version "${version}")
  if(NOT CMAKE_MATCH_1 OR CMAKE_MATCH_1 LESS 13)
    set(missing "${CUDA_COMPILER} is of CUDA ${CMAKE_MATCH_1}; 13 is needed")
    unset(CUDA_COMPILER CACHE)  # so that the next request for CUDA searches again
  endif()
endif()

# ORCH_CUDA_ARCHITECTURES (also in the environment): compute capabilities such as "86;90", "all", or "native",
# which is the default: those of the GPUs here, and PTX, which every GPU from 8.0 on compiles for itself.
set(ORCH_CUDA_ARCHITECTURES "" CACHE STRING "compute capabilities, all or native")
set(architectures "$ENV{ORCH_CUDA_ARCHITECTURES}")
if(architectures STREQUAL "")
  set(architectures "${ORCH_CUDA_ARCHITECTURES}")
endif()
string(REPLACE "," ";" architectures "${architectures}")
set(virtual "")
if(architectures STREQUAL "" OR architectures STREQUAL "native")
  set(virtual 80)
  execute_process(COMMAND nvidia-smi --query-gpu=compute_cap --format=csv,noheader
                  OUTPUT_VARIABLE architectures ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  string(REGEX MATCHALL "[0-9]+\\.[0-9]+" architectures "${architectures}")
  string(REPLACE "." "" architectures "${architectures}")
  list(REMOVE_DUPLICATES architectures)
  if(architectures STREQUAL "")
    set(architectures 90)
  endif()
elseif(architectures STREQUAL "all")
  set(architectures 80 86 89 90 100 120)
  set(virtual 120)
endif()
set(CUDA_TARGETS "")
set(CUDA_BUILT_FOR "")
foreach(number ${architectures})
  if(number EQUAL 90)
    set(number 90a)  # with Hopper's own instructions (warpgroup.h)
  endif()
  list(APPEND CUDA_TARGETS -gencode=arch=compute_${number},code=sm_${number})
  string(APPEND CUDA_BUILT_FOR "${number} ")
endforeach()
if(virtual)
  list(APPEND CUDA_TARGETS -gencode=arch=compute_${virtual},code=compute_${virtual})
  string(APPEND CUDA_BUILT_FOR "${virtual}-ptx")
endif()
string(STRIP "${CUDA_BUILT_FOR}" CUDA_BUILT_FOR)

set(ORCH_NVCC_MISSING "${missing}" CACHE INTERNAL "why there are no cuda_kernels")

# The kernels need nvcc alone. They use custom commands, because the required CMake version is older than
# CMake's support for CUDA 13.
if(missing STREQUAL "")
  get_filename_component(toolkit ${CUDA_COMPILER} DIRECTORY)
  get_filename_component(toolkit ${toolkit} DIRECTORY)
  set(CUDA_OBJECTS)
  foreach(kernel ${CUDA_KERNELS})
    get_filename_component(name ${kernel} NAME_WE)
    set(object ${CMAKE_BINARY_DIR}/cuda/${name}.o)
    add_custom_command(
      OUTPUT ${object}
      COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/cuda
      COMMAND ${CUDA_COMPILER} -ccbin ${CMAKE_CXX_COMPILER} -std=c++20 -O3 -lineinfo
              ${CUDA_TARGETS} -Xcompiler=-fPIC,-fvisibility=hidden,-ffp-contract=off
              -I${CMAKE_SOURCE_DIR}/native -c ${kernel} -o ${object}
      DEPENDS ${kernel} ${CUDA_HEADERS}
      COMMENT "nvcc ${name}.cu" VERBATIM)
    list(APPEND CUDA_OBJECTS ${object})
  endforeach()
  set_source_files_properties(${CUDA_OBJECTS} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  add_custom_target(cuda_kernels DEPENDS ${CUDA_OBJECTS})

  string(REPLACE ":" ";" given "$ENV{ORCH_CUDA_ROOTS}")
  find_program(PYTHON NAMES python3 python)
  set(packages "")
  if(PYTHON)
    execute_process(
      COMMAND ${PYTHON} -c "import importlib.util, glob; s = importlib.util.find_spec('nvidia'); \
print(';'.join(f for p in s.submodule_search_locations for f in sorted(glob.glob(p + '/*'))) if s else '', end='')"
      OUTPUT_VARIABLE packages ERROR_QUIET)
  endif()
  set(roots ${toolkit} ${ORCH_CUDA_ROOTS} ${given} ${packages})
  find_path(CUBLASLT_INCLUDE cublasLt.h HINTS ${roots} PATH_SUFFIXES include)
  find_library(CUBLASLT_LIBRARY NAMES cublasLt libcublasLt.so.13 HINTS ${roots} PATH_SUFFIXES lib64 lib)
  find_library(CUDART_LIBRARY NAMES cudart_static HINTS ${roots} PATH_SUFFIXES lib64 lib)
  find_path(CUDNN_INCLUDE cudnn_graph.h HINTS ${roots} PATH_SUFFIXES include)
  find_library(CUDNN_LIBRARY NAMES cudnn libcudnn.so.9 HINTS ${roots} PATH_SUFFIXES lib64 lib)
  find_path(NCCL_INCLUDE nccl.h HINTS ${roots} PATH_SUFFIXES include)
  find_library(NCCL_LIBRARY NAMES nccl libnccl.so.2 HINTS ${roots} PATH_SUFFIXES lib64 lib)
  if(NOT CUBLASLT_INCLUDE OR NOT CUBLASLT_LIBRARY OR NOT CUDART_LIBRARY)
    set(missing "cuBLASLt or the CUDA runtime was not found (ORCH_CUDA_ROOTS)")
  endif()
endif()

if(missing STREQUAL "")
  add_library(orchestrator_cuda SHARED EXCLUDE_FROM_ALL ${CUDA_OBJECTS} ${CUDA_SOURCES}/entry.cc ${CUDA_SOURCES}/device.cc
              ${CUDA_SOURCES}/matmul.cc ${CUDA_SOURCES}/fused_gelu.cc ${CUDA_SOURCES}/limits.cc ${CUDA_SOURCES}/attention_cudnn.cc
              ${CUDA_SOURCES}/cudnn.cc ${CUDA_SOURCES}/nccl.cc ${CUDA_SOURCES}/queue.cc ${CUDA_SOURCES}/snapshot_stream.cc)
  add_dependencies(orchestrator_cuda cuda_kernels)
  target_include_directories(orchestrator_cuda PRIVATE native)
  target_compile_definitions(orchestrator_cuda PRIVATE "ORCH_CUDA_BUILT_FOR=\"${CUDA_BUILT_FOR}\"")
  target_include_directories(orchestrator_cuda SYSTEM PRIVATE ${toolkit}/include ${CUBLASLT_INCLUDE})
  foreach(include CUDNN_INCLUDE NCCL_INCLUDE)  # opened at run time; without its header a library is off
    if(${include})
      target_include_directories(orchestrator_cuda SYSTEM PRIVATE ${${include}})
    endif()
  endforeach()
  target_link_libraries(orchestrator_cuda PRIVATE ${CUBLASLT_LIBRARY} ${CUDART_LIBRARY} Threads::Threads
                        ${CMAKE_DL_LIBS} rt)
  target_link_options(orchestrator_cuda PRIVATE -Wl,-Bsymbolic -Wl,--no-undefined)
  set(folders)
  foreach(library ${CUBLASLT_LIBRARY} ${CUDNN_LIBRARY} ${NCCL_LIBRARY})
    if(library)
      get_filename_component(folder ${library} DIRECTORY)
      list(APPEND folders ${folder})
    endif()
  endforeach()
  # In the addon's folder.
  set_target_properties(orchestrator_cuda PROPERTIES BUILD_RPATH "${folders}"
                        LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/Release)
endif()
set(ORCH_CUDA_MISSING "${missing}" CACHE INTERNAL "why there is no orchestrator_cuda")
