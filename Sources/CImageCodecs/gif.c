// GIF through giflib: the first picture, laid on its screen as Pillow lays it. A picture whose palette only repeats
// the index (0, 0, 0), (1, 1, 1), ... is grey in Pillow, and grey pictures are scaled with a filter where palettes are not.
#include "codecs.h"

#include <stdlib.h>
#include <string.h>

#include <gif_lib.h>

typedef struct {
    const uint8_t *next;
    size_t left;
    int ranOut;
    int blockCut;     // the file ends inside a block, of which Pillow then reads nothing
    int transparent;  // index of the transparent colour, or -1
} Source;

/// Beyond the end come zeros, which end every block of a GIF: a file that lacks only what follows the last pixel is
/// whole for Pillow.
static int on_read(GifFileType *gif, GifByteType *into, int count) {
    Source *source = gif->UserData;
    size_t taken = (size_t)count < source->left ? (size_t)count : source->left;
    if (taken) memcpy(into, source->next, taken);
    memset(into + taken, 0, (size_t)count - taken);
    source->next += taken;
    source->left -= taken;
    if (taken < (size_t)count) {
        source->ranOut = 1;
        if (count > 1) source->blockCut = 1;
    }
    return count;
}

/// Reads up to the first picture's descriptor. Returns NULL, with `status` and the detail set, when there is none.
static GifFileType *open_first(const uint8_t *bytes, size_t count, Source *source, CICImage *image, CICStatus *status) {
    *source = (Source){.next = bytes, .left = count, .transparent = -1};
    int error = 0;
    GifFileType *gif = DGifOpen(source, on_read, &error);
    if (!gif) {
        *status = error == D_GIF_ERR_NOT_ENOUGH_MEM ? CICStatusOutOfMemory
            : source->ranOut                        ? CICStatusTruncated
                                                    : cic_fail(image, CICStatusBroken, "the header cannot be read");
        return NULL;
    }
    while (!source->ranOut) {
        GifRecordType record;
        if (DGifGetRecordType(gif, &record) == GIF_ERROR) continue;  // a stray byte between blocks
        if (record == TERMINATE_RECORD_TYPE) break;
        if (record == IMAGE_DESC_RECORD_TYPE) {
            if (DGifGetImageDesc(gif) == GIF_ERROR || source->ranOut) break;
            return gif;
        }
        int code;
        GifByteType *block;
        if (DGifGetExtension(gif, &code, &block) == GIF_ERROR) break;
        if (code == GRAPHICS_EXT_FUNC_CODE && block && block[0] >= 4 && (block[1] & 1)) source->transparent = block[4];
        while (block && !source->ranOut) {
            if (DGifGetExtensionNext(gif, &block) == GIF_ERROR) break;
        }
    }
    *status = source->ranOut ? CICStatusTruncated : cic_fail(image, CICStatusBroken, "it holds no picture");
    DGifCloseFile(gif, NULL);
    return NULL;
}

static const ColorMapObject *palette_of(const GifFileType *gif) {
    const ColorMapObject *map = gif->Image.ColorMap ? gif->Image.ColorMap : gif->SColorMap;
    if (!map) return NULL;
    for (int i = 0; i < map->ColorCount; i++) {
        GifColorType color = map->Colors[i];
        if (color.Red != i || color.Green != i || color.Blue != i) return map;
    }
    return NULL;
}

static void describe(const GifFileType *gif, CICImage *image) {
    int right = gif->Image.Left + gif->Image.Width, bottom = gif->Image.Top + gif->Image.Height;
    image->width = right > gif->SWidth ? right : gif->SWidth;
    image->height = bottom > gif->SHeight ? bottom : gif->SHeight;
    const ColorMapObject *map = palette_of(gif);
    image->mode = map ? CICModePalette : CICModeGrey;
    for (int i = 0; map && i < map->ColorCount && i < 256; i++) {
        image->palette[3 * i] = map->Colors[i].Red;
        image->palette[3 * i + 1] = map->Colors[i].Green;
        image->palette[3 * i + 2] = map->Colors[i].Blue;
    }
}

CICStatus cic_gif_describe(const uint8_t *bytes, size_t count, CICImage *image) {
    Source source;
    CICStatus status = CICStatusOK;
    GifFileType *gif = open_first(bytes, count, &source, image, &status);
    if (!gif) return status;
    describe(gif, image);
    if (gif->Image.Width <= 0 || gif->Image.Height <= 0) {
        status = cic_fail(image, CICStatusBroken, "its first picture is empty");
    }
    DGifCloseFile(gif, NULL);
    return status;
}

/// Whether the codes of the picture that `gif` stands at spell `pixels` pixels by the rules of LZW. giflib draws
/// something for codes that are not in its table yet; Pillow refuses them.
static int spells(GifFileType *gif, const Source *source, size_t pixels) {
    enum { tableSize = 4096 };
    uint32_t lengths[tableSize];  // of the string that each code stands for
    int codeSize = source->next[-1], clear = 1 << codeSize, next = clear + 2, previous = -1;
    for (int code = 0; code < clear; code++) lengths[code] = 1;
    while (pixels > 0) {
        int code;
        if (DGifGetLZCodes(gif, &code) == GIF_ERROR || code < 0) return 0;
        if (code == clear) {
            next = clear + 2;
            previous = -1;
            continue;
        }
        if (code >= tableSize || (previous < 0 ? code > clear : code > next)) return 0;
        if (previous >= 0 && next < tableSize) lengths[next++] = lengths[previous] + 1;
        pixels -= lengths[code] < pixels ? lengths[code] : pixels;
        previous = code;
    }
    return 1;
}

CICStatus cic_gif_decode(const uint8_t *bytes, size_t count, CICImage *image, RowSink *sink) {
    static const int firstRows[] = {0, 4, 2, 1}, rowSteps[] = {8, 8, 4, 2};
    Source source;
    CICStatus status = CICStatusOK;
    GifFileType *gif = open_first(bytes, count, &source, image, &status);
    if (!gif) return status;
    size_t pixels = (size_t)gif->Image.Width * (size_t)gif->Image.Height;
    int valid = spells(gif, &source, pixels), cut = source.ranOut;
    DGifCloseFile(gif, NULL);
    if (!valid) {
        return cut ? CICStatusTruncated : cic_fail(image, CICStatusBroken, "its compressed data are damaged");
    }
    gif = open_first(bytes, count, &source, image, &status);
    if (!gif) return status;
    describe(gif, image);
    size_t width = (size_t)image->width, height = (size_t)image->height;
    uint8_t *screen = malloc(width * height);
    if (!screen) {
        DGifCloseFile(gif, NULL);
        return CICStatusOutOfMemory;
    }
    memset(screen, source.transparent < 0 ? 0 : source.transparent, width * height);
    uint8_t *frame = screen + (size_t)gif->Image.Top * width + (size_t)gif->Image.Left;
    int frameWidth = gif->Image.Width, frameHeight = gif->Image.Height;
    int passes = gif->Image.Interlace ? 4 : 1, whole = 1;
    for (int pass = 0; pass < passes && whole; pass++) {
        int step = gif->Image.Interlace ? rowSteps[pass] : 1;
        for (int y = firstRows[pass]; y < frameHeight && whole; y += step) {
            whole = DGifGetLine(gif, frame + (size_t)y * width, frameWidth) != GIF_ERROR;
        }
    }
    if (whole && !source.blockCut) {
        for (int32_t y = 0; y < image->height; y++) sink->row(sink, y, screen + (size_t)y * width);
    } else {
        status = source.ranOut ? CICStatusTruncated : cic_fail(image, CICStatusBroken, "its compressed data are damaged");
    }
    free(screen);
    DGifCloseFile(gif, NULL);
    return status;
}
