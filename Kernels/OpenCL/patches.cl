// What stands around the patch linear: unfoldPatches before it, beginPatches to give its result something to add to.

// One row to a patch, its inputs in the weight's order [3][patch][patch], normalised. One work-group to a row of pixels
// of a patch: group (patch, row of the patch, picture).
__attribute__((reqd_work_group_size(LANES, 1, 1))) __kernel void unfoldPatches(
    __global const uchar *bytes, __global const float *floats, ulong offset, uint isFloat, OUTPUT(y), uint height,
    uint width, uint patch, uint patchesAcross, uint patchesDown, float4 mean, float4 deviation) {
    const size_t picture = get_group_id(2);
    const uint index = get_group_id(0), line = get_group_id(1);
    const uint top = index / patchesAcross * patch + line, left = index % patchesAcross * patch;
    __global element *to = ROW(y, picture * patchesAcross * patchesDown + index) + line * patch;
    const size_t area = (size_t)height * width;
    for (uint c = get_local_id(0); c < patch; c += LANES) {
        const size_t at = (size_t)top * width + left + c;
        if (isFloat) {
            __global const float *from = floats + offset + picture * 3 * area + at;
            for (uint channel = 0; channel < 3; channel++) {
                STORE(from[channel * area], to, channel * patch * patch + c);
            }
        } else {
            const float3 p = convert_float3(vload3(picture * area + at, bytes + offset));
            const float3 v = (p / 255.0f - mean.xyz) / deviation.xyz;
            STORE(v.x, to, c);
            STORE(v.y, to, patch * patch + c);
            STORE(v.z, to, 2 * patch * patch + c);
        }
    }
}

// The class token and the positions, before the patches are added. One work-group to a row: group (row, picture).
__attribute__((reqd_work_group_size(LANES, 1, 1))) __kernel void beginPatches(
    OUTPUT(y), __global const float *classToken, __global const float *positions, uint columns, uint hasClass,
    uint hasPositions) {
    const uint row = get_group_id(0), rows = get_num_groups(0);
    __global element *to = ROW(y, get_group_id(1) * rows + row);
    for (uint c = get_local_id(0); c < columns; c += LANES) {
        float v = hasPositions ? positions[(size_t)row * columns + c] : 0.0f;
        if (hasClass && row == 0) { v += classToken[c]; }
        STORE(v, to, c);
    }
}
