// JPEG through libjpeg-turbo, with the settings that Pillow leaves at their defaults: accurate integer DCT ("islow")
// and fancy upsampling. Pillow feeds the library from a source that suspends at the end of the file; so do we, because
// that decides which damaged files are refused as truncated and which are drawn with what there is.
#include "codecs.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <jerror.h>
#include <jpeglib.h>

typedef struct {
    struct jpeg_decompress_struct decompress;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    int hasTooManyScans;
    jmp_buf onError;
    uint8_t *row;
} Reader;

static void on_error(j_common_ptr common) {
    Reader *reader = common->client_data;
    longjmp(reader->onError, 1);
}

/// Scans of a progressive file, each of which goes over the whole picture: a file of a few megabytes may have thousands.
#define MOST_SCANS 500

static void on_progress(j_common_ptr common) {
    Reader *reader = common->client_data;
    if (reader->decompress.input_scan_number <= MOST_SCANS) return;
    reader->hasTooManyScans = 1;
    longjmp(reader->onError, 1);
}

static void on_message(j_common_ptr common) { (void)common; }

static void source_nothing(j_decompress_ptr decompress) { (void)decompress; }

static boolean source_fill(j_decompress_ptr decompress) {
    (void)decompress;
    return FALSE;  // suspend: there is no more
}

static void source_skip(j_decompress_ptr decompress, long count) {
    struct jpeg_source_mgr *source = decompress->src;
    size_t skipped = count <= 0 ? 0 : (size_t)count;
    if (skipped > source->bytes_in_buffer) skipped = source->bytes_in_buffer;
    source->next_input_byte += skipped;
    source->bytes_in_buffer -= skipped;
}

static void open_reader(Reader *reader, const uint8_t *bytes, size_t count) {
    reader->row = NULL;
    reader->hasTooManyScans = 0;
    reader->progress = (struct jpeg_progress_mgr){.progress_monitor = on_progress};
    reader->decompress.err = jpeg_std_error(&reader->errors);
    reader->errors.error_exit = on_error;
    reader->errors.output_message = on_message;
    reader->decompress.client_data = reader;
    reader->source = (struct jpeg_source_mgr){
        .next_input_byte = bytes,
        .bytes_in_buffer = count,
        .init_source = source_nothing,
        .fill_input_buffer = source_fill,
        .skip_input_data = source_skip,
        .resync_to_restart = jpeg_resync_to_restart,
        .term_source = source_nothing,
    };
}

static CICStatus close_reader(Reader *reader, CICStatus status) {
    free(reader->row);
    jpeg_destroy_decompress(&reader->decompress);
    return status;
}

static CICStatus close_failed(Reader *reader, CICImage *image) {
    if (reader->hasTooManyScans) return close_reader(reader, cic_fail(image, CICStatusUnsupported, "a JPEG of more than 500 scans"));
    char message[JMSG_LENGTH_MAX];
    reader->errors.format_message((j_common_ptr)&reader->decompress, message);
    int outOfMemory = reader->errors.msg_code == JERR_OUT_OF_MEMORY;
    cic_fail(image, CICStatusBroken, message);
    return close_reader(reader, outOfMemory ? CICStatusOutOfMemory : CICStatusBroken);
}

CICStatus cic_jpeg_describe(const uint8_t *bytes, size_t count, CICImage *image) {
    Reader reader;
    open_reader(&reader, bytes, count);
    if (setjmp(reader.onError)) return close_failed(&reader, image);
    jpeg_create_decompress(&reader.decompress);
    reader.decompress.src = &reader.source;
    if (jpeg_read_header(&reader.decompress, TRUE) != JPEG_HEADER_OK) {
        return close_reader(&reader, CICStatusTruncated);
    }
    image->width = (int32_t)reader.decompress.image_width;
    image->height = (int32_t)reader.decompress.image_height;
    CICStatus status = CICStatusOK;
    switch (reader.decompress.num_components) {
    case 1: image->mode = CICModeGrey; break;
    case 3: image->mode = CICModeRGB; break;
    case 4: image->mode = CICModeCMYK; break;
    default: status = cic_fail(image, CICStatusUnsupported, "a JPEG of a number of channels other than 1, 3 or 4");
    }
    if (reader.decompress.data_precision != 8) {
        status = cic_fail(image, CICStatusUnsupported, "a JPEG of more than 8 bits a sample");
    }
    return close_reader(&reader, status);
}

CICStatus cic_jpeg_decode(const uint8_t *bytes, size_t count, CICImage *image, RowSink *sink) {
    Reader reader;
    open_reader(&reader, bytes, count);
    if (setjmp(reader.onError)) return close_failed(&reader, image);
    struct jpeg_decompress_struct *decompress = &reader.decompress;
    jpeg_create_decompress(decompress);
    decompress->progress = &reader.progress;
    decompress->src = &reader.source;
    if (jpeg_read_header(decompress, TRUE) != JPEG_HEADER_OK) return close_reader(&reader, CICStatusTruncated);
    switch (image->mode) {
    case CICModeGrey: decompress->out_color_space = JCS_GRAYSCALE; break;
    case CICModeRGB: decompress->out_color_space = JCS_EXT_RGBX; break;
    default: decompress->out_color_space = JCS_CMYK; break;
    }
    if (!jpeg_start_decompress(decompress)) return close_reader(&reader, CICStatusTruncated);
    size_t rowBytes = (size_t)image->width * (size_t)decompress->output_components;
    reader.row = malloc(rowBytes);
    if (!reader.row) return close_reader(&reader, CICStatusOutOfMemory);
    while (decompress->output_scanline < decompress->output_height) {
        int32_t y = (int32_t)decompress->output_scanline;
        if (jpeg_read_scanlines(decompress, &reader.row, 1) != 1) return close_reader(&reader, CICStatusTruncated);
        if (image->mode == CICModeCMYK) {
            // Like Pillow, read every CMYK file in Adobe's polarity, which stores ink upside down.
            for (size_t i = 0; i < rowBytes; i++) reader.row[i] = (uint8_t)(255 - reader.row[i]);
        }
        sink->row(sink, y, reader.row);
    }
    return close_reader(&reader, CICStatusOK);
}
