// PNG through libpng. Where Pillow and libpng differ in what they forgive, we follow Pillow: the chunks before the
// picture must have right checksums, the picture's own checksums are not looked at, and nothing after the last row
// matters. Ancillary chunks (gamma, transparency, profiles) do not change the pixels that a model sees.
#include "codecs.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>
#include <zlib.h>

static uint32_t big_endian32(const uint8_t *bytes) {
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/// Pillow's mode for a bit depth and colour type; 0 where PNG has no such pair.
static CICMode mode_of(int depth, int color) {
    switch (color) {
    case PNG_COLOR_TYPE_GRAY:
        switch (depth) {
        case 1: return CICModeBilevel;
        case 2:
        case 4:
        case 8: return CICModeGrey;
        case 16: return CICModeGrey16;
        }
        return 0;
    case PNG_COLOR_TYPE_RGB: return depth == 8 || depth == 16 ? CICModeRGB : 0;
    case PNG_COLOR_TYPE_PALETTE:
        return depth == 1 || depth == 2 || depth == 4 || depth == 8 ? CICModePalette : 0;
    case PNG_COLOR_TYPE_GRAY_ALPHA:
    case PNG_COLOR_TYPE_RGB_ALPHA: return depth == 8 || depth == 16 ? CICModeRGBA : 0;
    }
    return 0;
}

CICStatus cic_png_describe(const uint8_t *bytes, size_t count, CICImage *image) {
    // Every chunk up to the first of the picture: length, name, data, checksum.
    for (size_t at = 8;;) {
        if (count - at < 8) return CICStatusTruncated;
        size_t length = big_endian32(bytes + at);
        const uint8_t *name = bytes + at + 4, *data = bytes + at + 8;
        if (memcmp(name, "IDAT", 4) == 0 || memcmp(name, "IEND", 4) == 0) break;
        if (count - at - 8 < length || count - at - 8 - length < 4) return CICStatusTruncated;
        if (crc32(crc32(0, name, 4), data, (uInt)length) != big_endian32(data + length)) {
            return cic_fail(image, CICStatusBroken, "a chunk's checksum is wrong");
        }
        if (memcmp(name, "IHDR", 4) == 0 && length >= 13) {
            uint32_t width = big_endian32(data), height = big_endian32(data + 4);
            if (width > PNG_UINT_31_MAX || height > PNG_UINT_31_MAX) {
                return cic_fail(image, CICStatusBroken, "the header gives an impossible size");
            }
            image->width = (int32_t)width;
            image->height = (int32_t)height;
            image->mode = mode_of(data[8], data[9]);
        }
        at += 12 + length;
    }
    if (!image->mode) return cic_fail(image, CICStatusBroken, "the header gives no known kind of pixel");
    return CICStatusOK;
}

typedef struct {
    png_structp png;
    png_infop info;
    const uint8_t *bytes;
    size_t count, at;
    size_t cutChunk;  // where the chunk begins in whose data the file ends, or 0
    int ranOut;
    uint32_t rowsSeen, rowsExpected;  // to know whether an error came after the picture
    CICImage *image;
    uint8_t *rows;
    jmp_buf onError;
} Reader;

static void on_error(png_structp png, png_const_charp message) {
    Reader *reader = png_get_error_ptr(png);
    cic_fail(reader->image, CICStatusBroken, message);
    longjmp(reader->onError, 1);
}

static void on_warning(png_structp png, png_const_charp message) {
    (void)png;
    (void)message;
}

static void on_read(png_structp png, png_bytep into, size_t count) {
    Reader *reader = png_get_io_ptr(png);
    if (count > reader->count - reader->at) {
        reader->ranOut = 1;
        png_error(png, "the file ends inside the picture");
    }
    memcpy(into, reader->bytes + reader->at, count);
    if (reader->at == reader->cutChunk && reader->cutChunk && count >= 4) {
        // Say that the chunk is as long as the file lets it be, so that libpng takes what is there: the picture may
        // be whole although the chunk is not.
        png_save_uint_32(into, (png_uint_32)(reader->count - reader->at - 8));
    }
    reader->at += count;
}

/// Where the chunk begins whose data the file does not hold entirely, or 0.
static size_t find_cut_chunk(const uint8_t *bytes, size_t count) {
    for (size_t at = 8; count - at >= 8;) {
        size_t length = big_endian32(bytes + at);
        if (length > count - at - 8) return at;
        if (count - at - 8 - length < 4) return 0;
        at += 12 + length;
    }
    return 0;
}

static void on_row(png_structp png, png_row_infop info, png_bytep row) {
    (void)info;
    (void)row;
    Reader *reader = png_get_user_transform_ptr(png);
    reader->rowsSeen++;
}

static CICStatus close_reader(Reader *reader, CICStatus status) {
    png_destroy_read_struct(&reader->png, &reader->info, NULL);
    free(reader->rows);
    return status;
}

CICStatus cic_png_decode(const uint8_t *bytes, size_t count, CICImage *image, RowSink *sink) {
    static const png_byte ignored[] = "bKGD\0cHRM\0eXIf\0gAMA\0hIST\0iCCP\0iTXt\0oFFs\0pCAL\0sBIT\0sCAL\0sPLT\0sRGB\0"
                                      "tEXt\0tIME\0tRNS\0zTXt";
    Reader reader = {
        .bytes = bytes, .count = count, .cutChunk = find_cut_chunk(bytes, count), .image = image};
    size_t rowBytes = (size_t)image->width * (size_t)cic_bytes_per_pixel(image->mode);
    volatile int interlaced = 0;  // kept across longjmp
    if (setjmp(reader.onError)) {
        if (!reader.rows || reader.rowsSeen < reader.rowsExpected) {
            return close_reader(&reader, reader.ranOut ? CICStatusTruncated : CICStatusBroken);
        }
        // The last row was there and the trouble came behind it, where Pillow does not look.
        for (int32_t y = interlaced ? 0 : image->height - 1; y < image->height; y++) {
            sink->row(sink, y, reader.rows + (interlaced ? (size_t)y * rowBytes : 0));
        }
        return close_reader(&reader, CICStatusOK);
    }
    reader.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, on_error, on_warning);
    reader.info = reader.png ? png_create_info_struct(reader.png) : NULL;
    if (!reader.info) return close_reader(&reader, CICStatusOutOfMemory);
    png_structp png = reader.png;
    png_set_read_fn(png, &reader, on_read);
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);  // the caller has its own limit, on pixels
    png_set_crc_action(png, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);
    png_set_option(png, PNG_MAXIMUM_INFLATE_WINDOW, PNG_OPTION_ON);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, ignored, sizeof ignored / 5);
    png_read_info(png, reader.info);
    if (png_get_image_width(png, reader.info) != (png_uint_32)image->width ||
        png_get_image_height(png, reader.info) != (png_uint_32)image->height ||
        mode_of(png_get_bit_depth(png, reader.info), png_get_color_type(png, reader.info)) != image->mode) {
        png_error(png, "the file has two headers");
    }

    switch (image->mode) {
    case CICModeBilevel:
    case CICModeGrey: png_set_expand_gray_1_2_4_to_8(png); break;
    case CICModePalette: {
        png_colorp colors = NULL;
        int colorCount = 0;
        png_set_packing(png);
        png_get_PLTE(png, reader.info, &colors, &colorCount);
        for (int i = 0; i < colorCount && i < 256; i++) {
            image->palette[3 * i] = colors[i].red;
            image->palette[3 * i + 1] = colors[i].green;
            image->palette[3 * i + 2] = colors[i].blue;
        }
        break;
    }
    case CICModeGrey16:
        if (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__) png_set_swap(png);
        break;
    default:
        png_set_strip_16(png);  // Pillow keeps the high byte
        png_set_gray_to_rgb(png);
        png_set_filler(png, 0xff, PNG_FILLER_AFTER);
        break;
    }
    png_set_read_user_transform_fn(png, on_row);
    png_set_user_transform_info(png, &reader, 0, 0);
    interlaced = png_get_interlace_type(png, reader.info) != PNG_INTERLACE_NONE;
    int passes = png_set_interlace_handling(png);
    png_uint_32 width = (png_uint_32)image->width, height = (png_uint_32)image->height;
    for (int pass = 0; interlaced && pass < passes; pass++) {
        if (PNG_PASS_COLS(width, pass) > 0) reader.rowsExpected += PNG_PASS_ROWS(height, pass);
    }
    if (!interlaced) reader.rowsExpected = height;
    png_read_update_info(png, reader.info);
    if (png_get_rowbytes(png, reader.info) != rowBytes) png_error(png, "the rows have an unexpected length");

    if (!interlaced) {
        reader.rows = malloc(rowBytes);
        if (!reader.rows) return close_reader(&reader, CICStatusOutOfMemory);
        for (int32_t y = 0; y < image->height; y++) {
            png_read_row(png, reader.rows, NULL);
            sink->row(sink, y, reader.rows);
        }
        return close_reader(&reader, CICStatusOK);
    }
    reader.rows = malloc(rowBytes * (size_t)image->height);
    if (!reader.rows) return close_reader(&reader, CICStatusOutOfMemory);
    for (int pass = 0; pass < passes; pass++) {
        for (int32_t y = 0; y < image->height; y++) {
            png_read_row(png, reader.rows + (size_t)y * rowBytes, NULL);
        }
    }
    for (int32_t y = 0; y < image->height; y++) sink->row(sink, y, reader.rows + (size_t)y * rowBytes);
    return close_reader(&reader, CICStatusOK);
}

size_t cic_inflate(const uint8_t *packed, size_t count, uint8_t *out, size_t capacity) {
    uLongf length = capacity;
    if (packed == NULL || uncompress(out, &length, packed, count) != Z_OK) { return 0; }
    return length;
}
