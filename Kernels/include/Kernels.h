// The index of the device source: every kernel file as bytes in the binary, by name.
#pragma once

#include <stddef.h>

typedef struct {
    /// The file's path below OpenCL/ without ending: "linear", "mma/linear".
    const char *_Nonnull name;
    const unsigned char *_Nonnull text;
    size_t length;
} CLIPKernelSource;

/// The OpenCL C source of this name, or NULL where there is none.
const CLIPKernelSource *_Nullable clip_opencl_kernel(const char *_Nonnull name);
