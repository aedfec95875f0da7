// Picture files to pixels, and pixels to the square that a model reads, in Pillow's arithmetic.
//
// The files are read by libjpeg-turbo, libpng, libwebp and giflib. Every function is one call that returns a status,
// keeps its longjmp inside, holds no global state, and may run on any number of threads at once.
#pragma once

#include <stddef.h>
#include <stdint.h>

/// What went wrong. The caller turns it into a sentence.
typedef enum CICStatus {
    CICStatusOK = 0,
    CICStatusUnknownFormat,  // the first bytes are none of the four formats
    CICStatusTruncated,      // the file ends before the picture does
    CICStatusBroken,         // the codec refused the data; `detail` says why
    CICStatusUnsupported,    // a kind of picture that Pillow refuses as well; `detail` says which
    CICStatusOutOfMemory,
} CICStatus;

typedef enum CICFormat { CICFormatJPEG = 1, CICFormatPNG, CICFormatWebP, CICFormatGIF } CICFormat;

/// How a row of pixels lies in memory: Pillow's modes, as far as the four formats need them. Grey with alpha is
/// read as RGBA with three equal channels: every step downstream treats the channels alike, so the result is the same.
typedef enum CICMode {
    CICModeBilevel = 1,  // "1": one byte, 0 or 255
    CICModeGrey,         // "L": one byte
    CICModePalette,      // "P": one byte, an index into `palette`
    CICModeRGB,          // "RGB": four bytes between these functions, the fourth unspecified
    CICModeRGBA,         // "RGBA": four bytes, alpha not premultiplied
    CICModeCMYK,         // "CMYK": four bytes, 0 is no ink
    CICModeGrey16,       // "I;16": two bytes in the machine's order
} CICMode;

/// A picture as its header describes it.
typedef struct CICImage {
    CICFormat format;
    CICMode mode;
    int32_t width, height;
    uint8_t palette[256 * 3];  // RGB; black where the file gives fewer colours. Valid after decoding
    char detail[160];          // the codec's own words when a call fails
} CICImage;

typedef enum CICFilter { CICFilterBicubic = 0, CICFilterBilinear } CICFilter;

/// Which code scales: all give the same bytes, and tests compare them. What the machine lacks becomes generic.
typedef enum CICKernels { CICKernelsBest = 0, CICKernelsAVX2, CICKernelsGeneric } CICKernels;

/// Scale the whole picture to `scaledWidth` by `scaledHeight`, then cut or pad to `width` by `height`: pixel (x, y) of
/// the result is pixel (x + left, y + top) of the scaled picture, or `fill` in every channel where that lies outside.
typedef struct CICResize {
    int32_t scaledWidth, scaledHeight;
    int32_t left, top;  // negative where the result is padded
    int32_t width, height;
    CICFilter filter;
    CICKernels kernels;
    uint8_t fill;
} CICResize;

/// Bytes of one pixel in memory.
int32_t cic_bytes_per_pixel(CICMode mode);

/// Reads the header. Cheap: no pixel is decoded, and no memory of the picture's size is taken.
CICStatus cic_describe(const uint8_t *bytes, size_t count, CICImage *image);

/// Decodes the picture `image` that `cic_describe` found into `pixels`: height rows of width * bytes_per_pixel.
CICStatus cic_decode(const uint8_t *bytes, size_t count, CICImage *image, uint8_t *pixels);

/// Decodes, scales, cuts and converts to RGB in one pass over the rows; `rgb` has resize->width * resize->height * 3
/// bytes. Rows and columns that the result does not need are not computed, but are still checked for truncation.
CICStatus cic_decode_resized(
    const uint8_t *bytes, size_t count, CICImage *image, const CICResize *resize, uint8_t *rgb);

/// The same from pixels in memory, as `cic_decode` leaves them.
CICStatus cic_resize(const CICImage *image, const uint8_t *pixels, const CICResize *resize, uint8_t *rgb);

/// rgb [count, 3] to planes [3, count]: planes[c][i] = table[c][rgb[i][c]].
void cic_planes(const uint8_t *rgb, size_t count, const float table[3 * 256], float *planes);

/// Unpacks what zlib packed into `out`; how many bytes that are, 0 where the input is damaged or larger than `capacity`.
size_t cic_inflate(const uint8_t *packed, size_t count, uint8_t *out, size_t capacity);
