// What the codecs and the row consumers agree on: a codec decodes a picture row by row into a RowSink, which either
// stores the rows or scales them as they come. Codecs know nothing of scaling; sinks know nothing of formats.
#pragma once

#include "CImageCodecs.h"

typedef struct RowSink RowSink;

struct RowSink {
    /// Takes row y of the picture: width pixels in the image's mode. Rows come in rising order.
    void (*row)(RowSink *sink, int32_t y, const uint8_t *pixels);
    /// Rows and columns that the sink reads; a codec may leave out the others.
    int32_t firstRow, endRow, firstColumn, endColumn;
};

typedef CICStatus Describe(const uint8_t *bytes, size_t count, CICImage *image);
typedef CICStatus Decode(const uint8_t *bytes, size_t count, CICImage *image, RowSink *sink);

Describe cic_jpeg_describe, cic_png_describe, cic_webp_describe, cic_gif_describe;
Decode cic_jpeg_decode, cic_png_decode, cic_webp_decode, cic_gif_decode;

/// Decodes by the codec of `image->format`.
Decode cic_decode_rows;

/// Keeps the codec's words and returns `status`.
CICStatus cic_fail(CICImage *image, CICStatus status, const char *detail);
