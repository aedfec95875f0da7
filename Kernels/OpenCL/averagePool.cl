// Means of squares of `size` by `size` positions of NHWC pictures. One work-group to a position of the result.

__attribute__((reqd_work_group_size(LANES, 1, 1))) __kernel void averagePool(
    INPUT(x), OUTPUT(y), uint columns, uint height, uint width, uint outHeight, uint outWidth, uint size) {
    const uint position = get_group_id(0);
    const uint picture = position / (outHeight * outWidth);
    const uint top = position / outWidth % outHeight * size, left = position % outWidth * size;
    __global element *to = ROW(y, position);
    for (uint c = get_local_id(0); c < columns; c += LANES) {
        float sum = 0.0f;
        for (uint i = 0; i < size; i++) {
            for (uint j = 0; j < size; j++) {
                sum += LOAD(ROW(x, (picture * height + top + i) * width + left + j), c);
            }
        }
        STORE(sum / (size * size), to, c);
    }
}
