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
static const unsigned char nvidia_ptx[] = {
#embed "OpenCL/nvidia/ptx.cl"
};
static const unsigned char matrix_values[] = {
#embed "OpenCL/matrix/values.cl"
};
static const unsigned char matrix_epilogue[] = {
#embed "OpenCL/matrix/epilogue.cl"
};
static const unsigned char mma_linear[] = {
#embed "OpenCL/mma/linear.cl"
};
static const unsigned char mma_attention[] = {
#embed "OpenCL/mma/attention.cl"
};
static const unsigned char mma_norm[] = {
#embed "OpenCL/mma/norm.cl"
};
static const unsigned char mma_pooledAttention[] = {
#embed "OpenCL/mma/pooledAttention.cl"
};
static const unsigned char wgmma_tiles[] = {
#embed "OpenCL/wgmma/tiles.cl"
};
static const unsigned char wgmma_linear[] = {
#embed "OpenCL/wgmma/linear.cl"
};
static const unsigned char wgmma_attention[] = {
#embed "OpenCL/wgmma/attention.cl"
};
static const unsigned char amd_wmma[] = {
#embed "OpenCL/amd/wmma.cl"
};
static const unsigned char amd_mfma[] = {
#embed "OpenCL/amd/mfma.cl"
};
static const unsigned char intel_dpas[] = {
#embed "OpenCL/intel/dpas.cl"
};
static const unsigned char fragments_fragments[] = {
#embed "OpenCL/fragments/fragments.cl"
};
static const unsigned char fragments_linear[] = {
#embed "OpenCL/fragments/linear.cl"
};
static const unsigned char fragments_attention[] = {
#embed "OpenCL/fragments/attention.cl"
};

#define SOURCE(name) {#name, name, sizeof(name)}
#define SOURCE_IN(folder, name) {#folder "/" #name, folder##_##name, sizeof(folder##_##name)}
static const CLIPKernelSource sources[] = {
    SOURCE(prelude),   SOURCE(linear), SOURCE(convolution), SOURCE(norm),        SOURCE(attention), SOURCE(pooledAttention),
    SOURCE(patches),   SOURCE(pixels), SOURCE(tokens),      SOURCE(averagePool), SOURCE(rows),
    SOURCE(peak),
    SOURCE_IN(nvidia, ptx), SOURCE_IN(matrix, values), SOURCE_IN(matrix, epilogue), SOURCE_IN(mma, linear), SOURCE_IN(mma, attention),
    SOURCE_IN(mma, norm), SOURCE_IN(mma, pooledAttention), SOURCE_IN(wgmma, tiles), SOURCE_IN(wgmma, linear),
    SOURCE_IN(wgmma, attention),
    SOURCE_IN(amd, wmma), SOURCE_IN(amd, mfma), SOURCE_IN(intel, dpas), SOURCE_IN(fragments, fragments),
    SOURCE_IN(fragments, linear), SOURCE_IN(fragments, attention),
};

const CLIPKernelSource *clip_opencl_kernel(const char *name) {
    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
        if (strcmp(sources[i].name, name) == 0) { return &sources[i]; }
    }
    return NULL;
}
