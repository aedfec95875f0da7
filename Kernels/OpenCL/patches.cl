// What stands around the patch linear: unfoldPatches before it, beginPatches to give its result something to add to.

// One row to a patch, its inputs in the weight's order [3][patch][patch], normalised. One work-group to a line of pixels of a picture:
// group (0, line, picture); a work-item takes PIXELS neighbours of a patch at a time.
//
// Knob: PIXELS  4, 2 or 1, of which the patch is a multiple. Whatever stands behind the last whole patch of a line is left out.
#if PIXELS == 4
#define STORE_PIXELS(v, p, i) STORE4(vload4(0, v), p, i)
#elif PIXELS == 2
#if HALF
#define STORE_PIXELS(v, p, i) vstore_half2(vload2(0, v), 0, (p) + (i))
#else
#define STORE_PIXELS(v, p, i) vstore2(vload2(0, v), 0, (p) + (i))
#endif
#else
#define STORE_PIXELS(v, p, i) STORE((v)[0], p, i)
#endif

__attribute__((reqd_work_group_size(LANES, 1, 1))) __kernel void unfoldPatches(
    __global const uchar *bytes, __global const float *floats, ulong offset, uint isFloat, OUTPUT(y), uint height,
    uint width, uint patch, uint patchesAcross, uint patchesDown, float4 mean, float4 deviation) {
    const size_t picture = get_group_id(2);
    const uint line = get_group_id(1);
    const size_t first = picture * patchesAcross * patchesDown + line / patch * patchesAcross;
    const size_t area = (size_t)height * width;
#if HALF
    const float3 scale = 1.0f / (255.0f * deviation.xyz), shift = -mean.xyz / deviation.xyz;
#endif
    for (uint left = get_local_id(0) * PIXELS; left < patchesAcross * patch; left += LANES * PIXELS) {
        __global element *to = ROW(y, first + left / patch) + line % patch * patch + left % patch;
        const size_t at = (size_t)line * width + left;
        float v[3][PIXELS];
UNROLL_LOOP
        for (uint i = 0; i < PIXELS; i++) {
            if (isFloat) {
UNROLL_LOOP
                for (uint channel = 0; channel < 3; channel++) {
                    v[channel][i] = floats[offset + (picture * 3 + channel) * area + at + i];
                }
            } else {
                const float3 p = convert_float3(vload3(picture * area + at + i, bytes + offset));
#if HALF
                const float3 n = p * scale + shift;
#else
                const float3 n = (p / 255.0f - mean.xyz) / deviation.xyz;
#endif
                v[0][i] = n.x;
                v[1][i] = n.y;
                v[2][i] = n.z;
            }
        }
UNROLL_LOOP
        for (uint channel = 0; channel < 3; channel++) { STORE_PIXELS(v[channel], to, channel * patch * patch); }
    }
}

// The class token and the positions, before the patches are added. One work-group to a row: group (row, picture).
__attribute__((reqd_work_group_size(LANES, 1, 1))) __kernel void beginPatches(
    OUTPUT(y), __global const float *classToken, __global const float *positions, uint columns, uint hasClass,
    uint hasPositions) {
    const uint row = get_group_id(0), rows = get_num_groups(0);
    __global element *to = ROW(y, get_group_id(1) * rows + row);
    const uint whole = columns / 4 * 4;
    for (uint c = get_local_id(0) * 4; c < whole; c += LANES * 4) {
        float4 v = hasPositions ? vload4(0, positions + (size_t)row * columns + c) : (float4)(0.0f);
        if (hasClass && row == 0) { v += vload4(0, classToken + c); }
        STORE4(v, to, c);
    }
    for (uint c = whole + get_local_id(0); c < columns; c += LANES) {
        float v = hasPositions ? positions[(size_t)row * columns + c] : 0.0f;
        if (hasClass && row == 0) { v += classToken[c]; }
        STORE(v, to, c);
    }
}
