// Embeds the kernel files. A new file needs one line in the first list and nothing else.
#include "Kernels.h"

#include <string.h>

static const unsigned char prelude[] = {
#embed "OpenCL/prelude.cl"
};
static const unsigned char linear[] = {
#embed "OpenCL/linear.cl"
};
static const unsigned char convolution[] = {
#embed "OpenCL/convolution.cl"
};
static const unsigned char norm[] = {
#embed "OpenCL/norm.cl"
};
static const unsigned char attention[] = {
#embed "OpenCL/attention.cl"
};
static const unsigned char pooledAttention[] = {
#embed "OpenCL/pooledAttention.cl"
};
static const unsigned char patches[] = {
#embed "OpenCL/patches.cl"
};
static const unsigned char pixels[] = {
#embed "OpenCL/pixels.cl"
};
static const unsigned char tokens[] = {
#embed "OpenCL/tokens.cl"
};
static const unsigned char averagePool[] = {
#embed "OpenCL/averagePool.cl"
};
static const unsigned char rows[] = {
#embed "OpenCL/rows.cl"
};
static const unsigned char peak[] = {
#embed "OpenCL/peak.cl"
};

#define SOURCE(name) {#name, name, sizeof(name)}
static const CLIPKernelSource sources[] = {
    SOURCE(prelude),   SOURCE(linear), SOURCE(convolution), SOURCE(norm),        SOURCE(attention), SOURCE(pooledAttention),
    SOURCE(patches),   SOURCE(pixels), SOURCE(tokens),      SOURCE(averagePool), SOURCE(rows),
    SOURCE(peak),
};

const CLIPKernelSource *clip_opencl_kernel(const char *name) {
    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
        if (strcmp(sources[i].name, name) == 0) { return &sources[i]; }
    }
    return NULL;
}
