// The two inner loops of scaling, written once with vectors of 16 numbers and compiled for several instruction sets:
// the includer defines KERNEL(name) to give each copy its own name.
//
// Both loops sum 8-bit samples times 22-bit fixed-point weights exactly, so the order of summation does not matter
// and every copy gives the same bytes.

/// One row of four-channel pixels: out[i] = sum over taps of pixels[first[i] + tap] * weights[i][tap], for each channel.
/// `taps` is a multiple of 4, and weights hold each number four times, once a channel.
static void KERNEL(horizontal4)(
    const uint8_t *pixels, const int32_t *first, const int32_t *weights, int32_t taps, int32_t count, uint8_t *out) {
    for (int32_t i = 0; i < count; i++) {
        const uint8_t *source = pixels + 4 * (size_t)first[i];
        Int32x16 sum = {0};
        for (int32_t tap = 0; tap < taps; tap += 4, source += 16, weights += 16) {
            UInt8x16 bytes;
            Int32x16 weight;
            memcpy(&bytes, source, sizeof bytes);
            memcpy(&weight, weights, sizeof weight);
            sum += __builtin_convertvector(bytes, Int32x16) * weight;
        }
        Int32x8 half = __builtin_shufflevector(sum, sum, 0, 1, 2, 3, 4, 5, 6, 7) +
            __builtin_shufflevector(sum, sum, 8, 9, 10, 11, 12, 13, 14, 15);
        Int32x4 pixel = __builtin_shufflevector(half, half, 0, 1, 2, 3) +
            __builtin_shufflevector(half, half, 4, 5, 6, 7);
        pixel = (pixel + (1 << (precisionBits - 1))) >> precisionBits;
        pixel = __builtin_elementwise_min(__builtin_elementwise_max(pixel, (Int32x4){0}), (Int32x4){255, 255, 255, 255});
        UInt8x4 result = __builtin_convertvector(pixel, UInt8x4);
        memcpy(out + 4 * (size_t)i, &result, sizeof result);
    }
}

/// The same for one channel; weights hold each number once.
static void KERNEL(horizontal1)(
    const uint8_t *pixels, const int32_t *first, const int32_t *weights, int32_t taps, int32_t count, uint8_t *out) {
    for (int32_t i = 0; i < count; i++, weights += taps) {
        const uint8_t *source = pixels + first[i];
        int32_t sum = 1 << (precisionBits - 1);
        for (int32_t tap = 0; tap < taps; tap++) sum += source[tap] * weights[tap];
        out[i] = clip8(sum >> precisionBits);
    }
}

/// One row of the result from `taps` rows below each other, `stride` bytes apart; `length` is in bytes.
static void KERNEL(vertical)(
    const uint8_t *rows, size_t stride, const int32_t *weights, int32_t taps, size_t length, uint8_t *out) {
    size_t x = 0;
    for (; x + 16 <= length; x += 16) {
        Int32x16 sum = (Int32x16){0} + (1 << (precisionBits - 1));
        const uint8_t *source = rows + x;
        for (int32_t tap = 0; tap < taps; tap++, source += stride) {
            UInt8x16 bytes;
            memcpy(&bytes, source, sizeof bytes);
            sum += __builtin_convertvector(bytes, Int32x16) * weights[tap];
        }
        sum = sum >> precisionBits;
        sum = __builtin_elementwise_min(__builtin_elementwise_max(sum, (Int32x16){0}), (Int32x16){0} + 255);
        UInt8x16 result = __builtin_convertvector(sum, UInt8x16);
        memcpy(out + x, &result, sizeof result);
    }
    for (; x < length; x++) {
        int32_t sum = 1 << (precisionBits - 1);
        for (int32_t tap = 0; tap < taps; tap++) sum += rows[x + (size_t)tap * stride] * weights[tap];
        out[x] = clip8(sum >> precisionBits);
    }
}
