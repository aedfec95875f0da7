// Chooses the codec by the first bytes, never by a name, and holds the sink that stores whole pictures.
#include "codecs.h"

#include <string.h>

static Describe *const describers[] = {
    [CICFormatJPEG] = cic_jpeg_describe,
    [CICFormatPNG] = cic_png_describe,
    [CICFormatWebP] = cic_webp_describe,
    [CICFormatGIF] = cic_gif_describe,
};

static Decode *const decoders[] = {
    [CICFormatJPEG] = cic_jpeg_decode,
    [CICFormatPNG] = cic_png_decode,
    [CICFormatWebP] = cic_webp_decode,
    [CICFormatGIF] = cic_gif_decode,
};

CICStatus cic_decode_rows(const uint8_t *bytes, size_t count, CICImage *image, RowSink *sink) {
    return decoders[image->format](bytes, count, image, sink);
}

static int starts_with(const uint8_t *bytes, size_t count, size_t at, const char *word, size_t length) {
    return count >= at + length && memcmp(bytes + at, word, length) == 0;
}

CICStatus cic_fail(CICImage *image, CICStatus status, const char *detail) {
    size_t length = strnlen(detail, sizeof image->detail - 1);
    memmove(image->detail, detail, length);
    image->detail[length] = 0;
    return status;
}

int32_t cic_bytes_per_pixel(CICMode mode) {
    switch (mode) {
    case CICModeBilevel:
    case CICModeGrey:
    case CICModePalette: return 1;
    case CICModeGrey16: return 2;
    case CICModeRGB:
    case CICModeRGBA:
    case CICModeCMYK: return 4;
    }
    return 0;
}

CICStatus cic_describe(const uint8_t *bytes, size_t count, CICImage *image) {
    memset(image, 0, sizeof *image);
    if (starts_with(bytes, count, 0, "\xff\xd8\xff", 3)) {
        image->format = CICFormatJPEG;
    } else if (starts_with(bytes, count, 0, "\x89PNG\r\n\x1a\n", 8)) {
        image->format = CICFormatPNG;
    } else if (starts_with(bytes, count, 0, "RIFF", 4) && starts_with(bytes, count, 8, "WEBPVP8", 7)) {
        image->format = CICFormatWebP;
    } else if (starts_with(bytes, count, 0, "GIF87a", 6) || starts_with(bytes, count, 0, "GIF89a", 6)) {
        image->format = CICFormatGIF;
    } else {
        return CICStatusUnknownFormat;
    }
    return describers[image->format](bytes, count, image);
}

typedef struct {
    RowSink sink;
    uint8_t *pixels;
    size_t rowBytes;
} StoreSink;

static void store_row(RowSink *sink, int32_t y, const uint8_t *pixels) {
    StoreSink *store = (StoreSink *)sink;
    memcpy(store->pixels + (size_t)y * store->rowBytes, pixels, store->rowBytes);
}

CICStatus cic_decode(const uint8_t *bytes, size_t count, CICImage *image, uint8_t *pixels) {
    StoreSink store = {
        .sink = {store_row, 0, image->height, 0, image->width},
        .pixels = pixels,
        .rowBytes = (size_t)image->width * (size_t)cic_bytes_per_pixel(image->mode),
    };
    return cic_decode_rows(bytes, count, image, &store.sink);
}
