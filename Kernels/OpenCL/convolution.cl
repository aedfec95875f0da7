// y = epilogue(convolution of NHWC rows): stands before linear.cl and tells it where the inputs of a product row lie.
//
// A row of the product is one position of the result; its inputs are, for each position ("tap") under the kernel, the
// channels of that position in x, or zeros outside the picture. Taps are in row-major order, so the weight's inputs are
// [kernelHeight][kernelWidth][channels].

#define GATHERED
#define TAPS taps
#define LINEAR_NAME convolution
#define GATHER_PARAMETERS \
    , __global const element *zeros, uint taps, uint height, uint width, uint outHeight, uint outWidth, \
        uint kernelWidth, uint stride, uint padding

static inline __global const element *gather_row(
    __global const element *x, ulong xOffset, uint xPitch, __global const element *zeros, uint row, uint tap,
    uint height, uint width, uint outHeight, uint outWidth, uint kernelWidth, uint stride, uint padding) {
    const uint picture = row / (outHeight * outWidth);
    const uint position = row % (outHeight * outWidth);
    // Outside, these wrap around to more than any height or width.
    const uint input_row = position / outWidth * stride + tap / kernelWidth - padding;
    const uint input_column = position % outWidth * stride + tap % kernelWidth - padding;
    if (input_row >= height || input_column >= width) { return zeros; }
    return ROW(x, (picture * height + input_row) * width + input_column);
}

#define GATHER_ROW(row, tap) \
    gather_row( \
        x, xOffset, xPitch, zeros, row, tap, height, width, outHeight, outWidth, kernelWidth, stride, padding)
