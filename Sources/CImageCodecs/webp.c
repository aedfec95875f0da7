// WebP through libwebp's animation decoder, as Pillow does it: one way for still and moving pictures, of which the
// first frame is taken, drawn on a transparent canvas.
#include "codecs.h"

#include <string.h>

#include <webp/decode.h>
#include <webp/demux.h>

CICStatus cic_webp_describe(const uint8_t *bytes, size_t count, CICImage *image) {
    WebPBitstreamFeatures features;
    switch (WebPGetFeatures(bytes, count, &features)) {
    case VP8_STATUS_OK: break;
    case VP8_STATUS_NOT_ENOUGH_DATA: return CICStatusTruncated;
    default: return cic_fail(image, CICStatusBroken, "the header cannot be read");
    }
    image->width = features.width;
    image->height = features.height;
    image->mode = features.has_alpha ? CICModeRGBA : CICModeRGB;
    return CICStatusOK;
}

CICStatus cic_webp_decode(const uint8_t *bytes, size_t count, CICImage *image, RowSink *sink) {
    WebPData data = {bytes, count};
    WebPAnimDecoder *decoder = WebPAnimDecoderNew(&data, NULL);
    if (!decoder) return cic_fail(image, CICStatusBroken, "the container is damaged or ends too early");
    WebPAnimInfo info;
    uint8_t *canvas = NULL;
    int timestamp;
    CICStatus status = CICStatusOK;
    if (!WebPAnimDecoderGetInfo(decoder, &info) || (int32_t)info.canvas_width != image->width ||
        (int32_t)info.canvas_height != image->height) {
        status = cic_fail(image, CICStatusBroken, "the canvas and the header disagree");
    } else if (!WebPAnimDecoderGetNext(decoder, &canvas, &timestamp) || !canvas) {
        status = cic_fail(image, CICStatusBroken, "the first frame cannot be decoded");
    } else {
        size_t rowBytes = (size_t)image->width * 4;
        for (int32_t y = 0; y < image->height; y++) sink->row(sink, y, canvas + (size_t)y * rowBytes);
    }
    WebPAnimDecoderDelete(decoder);
    return status;
}
