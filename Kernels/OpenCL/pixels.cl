// Pictures into NHWC rows of three columns, normalised. One work-item to a position.

__kernel void pixels(
    __global const uchar *bytes, __global const float *floats, ulong offset, uint isFloat, OUTPUT(y), ulong positions,
    uint area, float4 mean, float4 deviation) {
    const size_t position = get_global_id(0);
    if (position >= positions) { return; }
    __global element *to = ROW(y, position);
    if (isFloat) {
        // [count, 3, height, width], normalised by the host
        const size_t picture = position / area, at = position % area;
        for (uint c = 0; c < 3; c++) { STORE(floats[offset + (picture * 3 + c) * area + at], to, c); }
    } else {
        const float3 p = convert_float3(vload3(position, bytes + offset));
        const float3 v = (p / 255.0f - mean.xyz) / deviation.xyz;
        STORE(v.x, to, 0);
        STORE(v.y, to, 1);
        STORE(v.z, to, 2);
    }
}
