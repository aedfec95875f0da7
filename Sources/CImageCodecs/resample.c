// Scaling in Pillow's arithmetic (its ImagingResample and, for modes that cannot be blended, its nearest neighbour),
// fed row by row: each row that comes goes through the first pass at once, while it is in the cache; as soon as the
// rows below a row of the result are complete, that row is finished. Only what the cut leaves is ever computed.
//
// What makes it exact: an antialiasing filter whose support grows with the scale, weights normalised in double and
// rounded to 22 bits, rounding and clipping to 8 bits after each pass, the order of the passes (Pillow 13 begins with
// the vertical one where that is the larger reduction, Pillow 12 did not), colours premultiplied by alpha around the
// two passes, and RGB only at the very end.
#include "codecs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Weights must be computed as written: a fused multiply-add would round differently.
#pragma STDC FP_CONTRACT OFF

enum { precisionBits = 32 - 8 - 2 };

static inline uint8_t clip8(int32_t value) { return value < 0 ? 0 : value > 255 ? 255 : (uint8_t)value; }

typedef int32_t Int32x16 __attribute__((vector_size(64)));
typedef int32_t Int32x8 __attribute__((vector_size(32)));
typedef int32_t Int32x4 __attribute__((vector_size(16)));
typedef uint8_t UInt8x16 __attribute__((vector_size(16)));
typedef uint8_t UInt8x4 __attribute__((vector_size(4)));

#define KERNEL(name) name##_generic
#include "resample_rows.h"
#undef KERNEL

#if defined(__x86_64__)
    #pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
    #define KERNEL(name) name##_avx2
    #include "resample_rows.h"
    #undef KERNEL
    #pragma clang attribute pop

    #pragma clang attribute push( \
        __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,prefer-256-bit"))), apply_to = function)
    #define KERNEL(name) name##_avx512
    #include "resample_rows.h"
    #undef KERNEL
    #pragma clang attribute pop
#endif

typedef void HorizontalKernel(
    const uint8_t *pixels, const int32_t *first, const int32_t *weights, int32_t taps, int32_t count, uint8_t *out);
typedef void VerticalKernel(
    const uint8_t *rows, size_t stride, const int32_t *weights, int32_t taps, size_t length, uint8_t *out);

typedef struct {
    HorizontalKernel *horizontal4, *horizontal1;
    VerticalKernel *vertical;
} Kernels;

static Kernels choose_kernels(CICKernels wanted) {
#if defined(__x86_64__)
    if (wanted == CICKernelsBest && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
        return (Kernels){horizontal4_avx512, horizontal1_avx512, vertical_avx512};
    }
    if (wanted != CICKernelsGeneric && __builtin_cpu_supports("avx2")) {
        return (Kernels){horizontal4_avx2, horizontal1_avx2, vertical_avx2};
    }
#endif
    (void)wanted;
    return (Kernels){horizontal4_generic, horizontal1_generic, vertical_generic};
}

/// Which samples make up each of `count` results along one axis, and their weights.
typedef struct {
    int32_t count, taps;
    int32_t *first;   // [count], first sample
    int32_t *length;  // [count], samples that count; the weights beyond are zero
    double *weights;  // [count, taps]
    int32_t *fixed;   // [count, taps * copies], in 22 bits; NULL for 16-bit pictures
} Axis;

static void free_axis(Axis *axis) {
    free(axis->first);
    free(axis->length);
    free(axis->weights);
    free(axis->fixed);
}

static double bicubic(double x) {
    const double a = -0.5;
    if (x < 0) x = -x;
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

static double bilinear(double x) {
    if (x < 0) x = -x;
    return x < 1 ? 1 - x : 0;
}

/// Results `start ..< start + count` of an axis that is scaled from `from` to `to` samples.
static int make_axis(Axis *axis, int32_t from, int32_t to, int32_t start, int32_t count, CICFilter filter) {
    // Pillow passes the size of the picture through a float.
    double scale = (double)(float)from / to;
    double filterScale = scale < 1 ? 1 : scale;
    double support = (filter == CICFilterBicubic ? 2.0 : 1.0) * filterScale;
    double inverse = 1.0 / filterScale;
    double taps = ceil(support) * 2 + 1;
    if (taps > from) taps = from;
    // More weights than any sensible picture needs: a line of a hundred million pixels would take gigabytes of them.
    if (taps * count > 1 << 26) return 0;
    axis->count = count;
    axis->taps = (int32_t)taps;
    axis->first = malloc((size_t)count * sizeof *axis->first);
    axis->length = malloc((size_t)count * sizeof *axis->length);
    axis->weights = calloc((size_t)count * (size_t)axis->taps, sizeof *axis->weights);
    if (!axis->first || !axis->length || !axis->weights) return 0;
    for (int32_t i = 0; i < count; i++) {
        double center = ((double)(start + i) + 0.5) * scale;
        double low = center - support + 0.5, high = center + support + 0.5;
        int32_t first = low < 0 ? 0 : (int32_t)low;
        int32_t end = high > from ? from : (int32_t)high;
        double *weights = axis->weights + (size_t)i * (size_t)axis->taps;
        double sum = 0;
        for (int32_t x = first; x < end; x++) {
            double position = (x - center + 0.5) * inverse;
            double weight = filter == CICFilterBicubic ? bicubic(position) : bilinear(position);
            weights[x - first] = weight;
            sum += weight;
        }
        for (int32_t x = 0; sum != 0 && x < end - first; x++) weights[x] /= sum;
        axis->first[i] = first;
        axis->length[i] = end - first;
    }
    return 1;
}

/// Rounds the weights to fixed point, `copies` times each, and pads them with zeros to a multiple of `multiple` taps.
/// Where the padded taps would reach behind the last of `from` samples, the window moves back instead; it returns 0
/// without memory. When `from` itself is smaller than the padded window, rows must be padded by the caller.
static int make_fixed(Axis *axis, int32_t from, int32_t copies, int32_t multiple) {
    int32_t taps = (axis->taps + multiple - 1) / multiple * multiple;
    axis->fixed = calloc((size_t)axis->count * (size_t)taps * (size_t)copies, sizeof *axis->fixed);
    if (!axis->fixed) return 0;
    for (int32_t i = 0; i < axis->count; i++) {
        int32_t shift = axis->first[i] + taps - from;
        if (shift < 0 || multiple == 1) shift = 0;
        if (shift > axis->first[i]) shift = axis->first[i];
        axis->first[i] -= shift;
        for (int32_t x = 0; x < axis->length[i]; x++) {
            double weight = axis->weights[(size_t)i * (size_t)axis->taps + (size_t)x] * (1 << precisionBits);
            int32_t fixed = (int32_t)(weight < 0 ? weight - 0.5 : weight + 0.5);
            int32_t *place = axis->fixed + ((size_t)i * (size_t)taps + (size_t)(x + shift)) * (size_t)copies;
            for (int32_t copy = 0; copy < copies; copy++) place[copy] = fixed;
        }
    }
    axis->taps = taps;
    return 1;
}

/// Nearest neighbour: the sample of each result, found as Pillow finds it, by repeated addition.
static int make_nearest(Axis *axis, int32_t from, int32_t to, int32_t start, int32_t count) {
    axis->count = count;
    axis->first = malloc((size_t)count * sizeof *axis->first);
    if (!axis->first) return 0;
    double step = (double)(float)from / to, position = step * 0.5;
    for (int32_t i = 0; i < start; i++) position += step;
    for (int32_t i = 0; i < count; i++, position += step) {
        axis->first[i] = position < from ? (int32_t)position : from - 1;
    }
    return 1;
}

/// A sink that scales. The result's visible part is the `columns` by `rows` rectangle at (`x`, `y`) of the square.
typedef struct {
    RowSink sink;
    const CICImage *image;
    const CICResize *resize;
    uint8_t *rgb;
    Kernels kernels;
    int32_t columns, rows, x, y;
    int32_t span;  // columns of the picture that are read, from sink.firstColumn on
    int scalesX, scalesY, verticalFirst, premultiplies;
    size_t pixelBytes;
    Axis horizontal, vertical;  // the horizontal axis counts from sink.firstColumn
    int32_t nextRow;            // the next row of the result
    uint8_t *source;            // one row of the picture, where it must be premultiplied or padded; else NULL
    uint8_t *line;              // one row after the first pass or between the two
    uint8_t *result;            // one row after both passes
    // Rows that wait for the vertical pass: windowFirst ..< windowEnd of the picture, at most windowCapacity.
    uint8_t *window;
    int32_t windowFirst, windowEnd, windowCapacity;
    size_t windowStride;
} Resizer;

static inline unsigned multiply255(unsigned a, unsigned b) {
    unsigned product = a * b + 128;
    return ((product >> 8) + product) >> 8;
}

static inline uint8_t divide255(unsigned value, unsigned alpha) {
    unsigned quotient = 255 * value / alpha;
    return quotient > 255 ? 255 : (uint8_t)quotient;
}

/// `count` pixels to RGB, as Pillow's convert("RGB") does it.
static void to_rgb(const Resizer *resizer, const uint8_t *pixels, int32_t count, uint8_t *rgb) {
    const uint8_t *palette = resizer->image->palette;
    for (int32_t i = 0; i < count; i++, rgb += 3) {
        const uint8_t *pixel = pixels + (size_t)i * resizer->pixelBytes;
        switch (resizer->image->mode) {
        case CICModeBilevel:
        case CICModeGrey: rgb[0] = rgb[1] = rgb[2] = pixel[0]; break;
        case CICModePalette: memcpy(rgb, palette + 3 * pixel[0], 3); break;
        case CICModeRGB: memcpy(rgb, pixel, 3); break;
        case CICModeRGBA:
            if (resizer->premultiplies && pixel[3] != 0 && pixel[3] != 255) {
                for (int channel = 0; channel < 3; channel++) rgb[channel] = divide255(pixel[channel], pixel[3]);
            } else {
                memcpy(rgb, pixel, 3);
            }
            break;
        case CICModeCMYK: {
            unsigned light = 255u - pixel[3];
            for (int channel = 0; channel < 3; channel++) {
                rgb[channel] = clip8((int32_t)light - (int32_t)multiply255(pixel[channel], light));
            }
            break;
        }
        case CICModeGrey16: {
            uint16_t value;
            memcpy(&value, pixel, sizeof value);
            rgb[0] = rgb[1] = rgb[2] = value > 255 ? 255 : (uint8_t)value;  // Pillow cuts, it does not scale
            break;
        }
        }
    }
}

static uint8_t *output_row(const Resizer *resizer, int32_t row) {
    size_t at = (size_t)(resizer->y + row) * (size_t)resizer->resize->width + (size_t)resizer->x;
    return resizer->rgb + 3 * at;
}

static void nearest_row(RowSink *sink, int32_t y, const uint8_t *pixels) {
    Resizer *resizer = (Resizer *)sink;
    while (resizer->nextRow < resizer->rows && resizer->vertical.first[resizer->nextRow] <= y) {
        for (int32_t i = 0; i < resizer->columns; i++) resizer->result[i] = pixels[resizer->horizontal.first[i]];
        to_rgb(resizer, resizer->result, resizer->columns, output_row(resizer, resizer->nextRow));
        resizer->nextRow++;
    }
}

static inline uint16_t grey16(const uint8_t *pixels, size_t at) {
    uint16_t value;
    memcpy(&value, pixels + 2 * at, sizeof value);
    return value;
}

/// sum over taps of samples * weights in double, rounded to 16 bits: what Pillow does for 16-bit pictures.
static void blend16(
    const uint8_t *pixels, size_t first, size_t step, const double *weights, int32_t length, uint8_t *out) {
    double sum = 0;
    for (int32_t tap = 0; tap < length; tap++) sum += grey16(pixels, first + (size_t)tap * step) * weights[tap];
    int32_t rounded = (int32_t)(sum >= 0 ? sum + 0.5 : sum - 0.5);
    uint16_t value = rounded < 0 ? 0 : rounded > 65535 ? 65535 : (uint16_t)rounded;
    memcpy(out, &value, sizeof value);
}

static void horizontal_pass(const Resizer *resizer, const uint8_t *pixels, uint8_t *out) {
    const Axis *axis = &resizer->horizontal;
    if (resizer->image->mode == CICModeGrey16) {
        for (int32_t i = 0; i < axis->count; i++) {
            const double *weights = axis->weights + (size_t)i * (size_t)axis->taps;
            blend16(pixels, (size_t)axis->first[i], 1, weights, axis->length[i], out + 2 * (size_t)i);
        }
    } else {
        (resizer->pixelBytes == 4 ? resizer->kernels.horizontal4 : resizer->kernels.horizontal1)(
            pixels, axis->first, axis->fixed, axis->taps, axis->count, out);
    }
}

/// The row `resizer->nextRow` of the result, from the rows in the window.
static void vertical_pass(const Resizer *resizer, uint8_t *out) {
    const Axis *axis = &resizer->vertical;
    size_t row = (size_t)resizer->nextRow, weights = row * (size_t)axis->taps, stride = resizer->windowStride;
    const uint8_t *pixels = resizer->window + (size_t)(axis->first[row] - resizer->windowFirst) * stride;
    if (resizer->image->mode == CICModeGrey16) {
        for (size_t i = 0; i < stride / 2; i++) {
            blend16(pixels, i, stride / 2, axis->weights + weights, axis->length[row], out + 2 * i);
        }
    } else {
        resizer->kernels.vertical(pixels, stride, axis->fixed + weights, axis->length[row], stride, out);
    }
}

/// Takes a row that has its final height: the horizontal pass, if it is still to come, and RGB.
static void finish_row(Resizer *resizer, const uint8_t *pixels) {
    if (resizer->scalesX && resizer->verticalFirst) {
        horizontal_pass(resizer, pixels, resizer->result);
        pixels = resizer->result;
    }
    to_rgb(resizer, pixels, resizer->columns, output_row(resizer, resizer->nextRow));
    resizer->nextRow++;
}

static void filtered_row(RowSink *sink, int32_t y, const uint8_t *pixels) {
    Resizer *resizer = (Resizer *)sink;
    if (y < sink->firstRow || y >= sink->endRow) return;
    size_t bytes = (size_t)resizer->span * resizer->pixelBytes;
    pixels += (size_t)sink->firstColumn * resizer->pixelBytes;
    if (resizer->premultiplies) {
        for (size_t i = 0; i < bytes; i += 4) {
            unsigned alpha = pixels[i + 3];
            for (size_t channel = 0; channel < 3; channel++) {
                resizer->source[i + channel] = (uint8_t)multiply255(pixels[i + channel], alpha);
            }
            resizer->source[i + 3] = (uint8_t)alpha;
        }
        pixels = resizer->source;
    } else if (resizer->source) {
        memcpy(resizer->source, pixels, bytes);
        pixels = resizer->source;
    }

    int horizontal = resizer->scalesX && !resizer->verticalFirst;
    if (!resizer->scalesY) {
        if (horizontal) {
            horizontal_pass(resizer, pixels, resizer->line);
            pixels = resizer->line;
        }
        finish_row(resizer, pixels);
        return;
    }

    const Axis *axis = &resizer->vertical;
    if (resizer->windowEnd - resizer->windowFirst == resizer->windowCapacity) {
        int32_t kept = axis->first[resizer->nextRow];
        memmove(
            resizer->window, resizer->window + (size_t)(kept - resizer->windowFirst) * resizer->windowStride,
            (size_t)(resizer->windowEnd - kept) * resizer->windowStride);
        resizer->windowFirst = kept;
    }
    uint8_t *place = resizer->window + (size_t)(y - resizer->windowFirst) * resizer->windowStride;
    if (horizontal) {
        horizontal_pass(resizer, pixels, place);
    } else {
        memcpy(place, pixels, resizer->windowStride);
    }
    resizer->windowEnd = y + 1;
    while (resizer->nextRow < resizer->rows &&
           axis->first[resizer->nextRow] + axis->length[resizer->nextRow] <= resizer->windowEnd) {
        vertical_pass(resizer, resizer->line);
        finish_row(resizer, resizer->line);
    }
}

static void close_resizer(Resizer *resizer) {
    free_axis(&resizer->horizontal);
    free_axis(&resizer->vertical);
    free(resizer->source);
    free(resizer->line);
    free(resizer->result);
    free(resizer->window);
}

static int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }
static int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }

/// Where the picture has no pixel: `fill` in every channel of its own mode, turned into RGB like everything else.
static void fill_outside(Resizer *resizer) {
    uint8_t fill[4], color[3];
    memset(fill, resizer->resize->fill, sizeof fill);
    if (resizer->image->mode == CICModeBilevel && fill[0]) fill[0] = 255;
    if (resizer->image->mode == CICModeGrey16) {
        uint16_t value = resizer->resize->fill;
        memcpy(fill, &value, sizeof value);
    }
    Resizer plain = *resizer;
    plain.premultiplies = 0;
    to_rgb(&plain, fill, 1, color);
    const CICResize *resize = resizer->resize;
    for (int32_t y = 0; y < resize->height; y++) {
        int inside = y >= resizer->y && y < resizer->y + resizer->rows;
        for (int32_t x = 0; x < resize->width; x++) {
            if (inside && x == resizer->x) x += resizer->columns;
            if (x >= resize->width) break;
            memcpy(resizer->rgb + 3 * ((size_t)y * (size_t)resize->width + (size_t)x), color, sizeof color);
        }
    }
}

/// Nearest neighbour, for pictures whose values cannot be blended.
static int open_nearest(Resizer *resizer, int32_t columnStart, int32_t rowStart) {
    const CICImage *image = resizer->image;
    const CICResize *resize = resizer->resize;
    resizer->sink = (RowSink){nearest_row, 0, image->height, 0, image->width};
    resizer->result = malloc((size_t)resizer->columns);
    return resizer->result &&
        make_nearest(&resizer->horizontal, image->width, resize->scaledWidth, columnStart, resizer->columns) &&
        make_nearest(&resizer->vertical, image->height, resize->scaledHeight, rowStart, resizer->rows);
}

static int open_filtered(Resizer *resizer, int32_t columnStart, int32_t rowStart) {
    const CICImage *image = resizer->image;
    const CICResize *resize = resizer->resize;
    Axis *horizontal = &resizer->horizontal, *vertical = &resizer->vertical;
    RowSink *sink = &resizer->sink;
    size_t bytes = resizer->pixelBytes;
    int isFixed = image->mode != CICModeGrey16;
    *sink = (RowSink){filtered_row, rowStart, rowStart + resizer->rows, columnStart, columnStart + resizer->columns};

    int64_t lostRows = (int64_t)image->height - resize->scaledHeight;
    int64_t lostColumns = (int64_t)image->width - resize->scaledWidth;
    resizer->verticalFirst = lostRows > 0 && lostRows > 2 * lostColumns;

    if (resizer->scalesX) {
        if (!make_axis(
                horizontal, image->width, resize->scaledWidth, columnStart, resizer->columns, resize->filter)) {
            return 0;
        }
        int32_t last = resizer->columns - 1;
        sink->firstColumn = horizontal->first[0];
        sink->endColumn = horizontal->first[last] + horizontal->length[last];
        for (int32_t i = 0; i <= last; i++) horizontal->first[i] -= sink->firstColumn;
        int32_t copies = bytes == 4 ? 4 : 1, multiple = bytes == 4 ? 4 : 16;
        if (isFixed && !make_fixed(horizontal, sink->endColumn - sink->firstColumn, copies, multiple)) return 0;
    }
    resizer->span = sink->endColumn - sink->firstColumn;

    if (resizer->scalesY) {
        if (!make_axis(vertical, image->height, resize->scaledHeight, rowStart, resizer->rows, resize->filter) ||
            (isFixed && !make_fixed(vertical, image->height, 1, 1))) {
            return 0;
        }
        int32_t last = resizer->rows - 1;
        sink->firstRow = vertical->first[0];
        sink->endRow = vertical->first[last] + vertical->length[last];
        // Twice the rows of one window, so that they are seldom moved.
        resizer->windowCapacity = smaller(2 * vertical->taps, sink->endRow - sink->firstRow);
        resizer->windowStride = bytes *
            (size_t)(resizer->scalesX && !resizer->verticalFirst ? resizer->columns : resizer->span);
        resizer->windowFirst = resizer->windowEnd = sink->firstRow;
        resizer->window = malloc((size_t)resizer->windowCapacity * resizer->windowStride);
        if (!resizer->window) return 0;
    }

    // Rows before the horizontal pass are at least as long as its padded window: taps behind the last pixel have no
    // weight, but are read.
    size_t length = (size_t)larger(larger(resizer->span, horizontal->taps), resizer->columns);
    if (resizer->premultiplies || horizontal->taps > resizer->span) {
        resizer->source = calloc(length, bytes);
        if (!resizer->source) return 0;
    }
    resizer->line = calloc(length, bytes);
    resizer->result = malloc((size_t)resizer->columns * bytes);
    return resizer->line && resizer->result;
}

static int open_resizer(Resizer *resizer, const CICImage *image, const CICResize *resize, uint8_t *rgb) {
    int32_t columnStart = larger(resize->left, 0), rowStart = larger(resize->top, 0);
    *resizer = (Resizer){
        .image = image,
        .resize = resize,
        .rgb = rgb,
        .kernels = choose_kernels(resize->kernels),
        .pixelBytes = (size_t)cic_bytes_per_pixel(image->mode),
        .x = larger(-resize->left, 0),
        .y = larger(-resize->top, 0),
        .scalesX = resize->scaledWidth != image->width,
        .scalesY = resize->scaledHeight != image->height,
    };
    resizer->columns = smaller(resize->scaledWidth - columnStart, resize->width - resizer->x);
    resizer->rows = smaller(resize->scaledHeight - rowStart, resize->height - resizer->y);
    resizer->premultiplies = image->mode == CICModeRGBA && (resizer->scalesX || resizer->scalesY);
    return (image->mode == CICModeBilevel || image->mode == CICModePalette ? open_nearest : open_filtered)(
        resizer, columnStart, rowStart);
}

CICStatus cic_decode_resized(
    const uint8_t *bytes, size_t count, CICImage *image, const CICResize *resize, uint8_t *rgb) {
    Resizer resizer;
    CICStatus status = CICStatusOutOfMemory;
    if (open_resizer(&resizer, image, resize, rgb)) {
        status = cic_decode_rows(bytes, count, image, &resizer.sink);
        if (status == CICStatusOK) fill_outside(&resizer);
    }
    close_resizer(&resizer);
    return status;
}

CICStatus cic_resize(const CICImage *image, const uint8_t *pixels, const CICResize *resize, uint8_t *rgb) {
    Resizer resizer;
    CICStatus status = CICStatusOutOfMemory;
    if (open_resizer(&resizer, image, resize, rgb)) {
        size_t rowBytes = (size_t)image->width * resizer.pixelBytes;
        for (int32_t y = resizer.sink.firstRow; y < resizer.sink.endRow; y++) {
            resizer.sink.row(&resizer.sink, y, pixels + (size_t)y * rowBytes);
        }
        fill_outside(&resizer);
        status = CICStatusOK;
    }
    close_resizer(&resizer);
    return status;
}

void cic_planes(const uint8_t *rgb, size_t count, const float table[3 * 256], float *planes) {
    for (size_t channel = 0; channel < 3; channel++) {
        const float *values = table + 256 * channel;
        float *plane = planes + count * channel;
        for (size_t i = 0; i < count; i++) plane[i] = values[rgb[3 * i + channel]];
    }
}
