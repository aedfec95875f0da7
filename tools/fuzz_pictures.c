// Feeds the picture decoders damaged files under AddressSanitizer: bits flipped, parts cut out, repeated or taken from
// other files. Built and run by tools/fuzz-pictures. It stops at the first crash, leaving the file behind, and also
// checks that every kernel gives the same bytes and that the one-pass way equals decoding first.
#include "CImageCodecs.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { size = 20, maximumFiles = 1024, maximumBytes = 1 << 17 };

static uint64_t state;

static size_t below(size_t bound) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return bound ? state % bound : 0;
}

typedef struct {
    uint8_t *bytes;
    size_t count;
} File;

static File files[maximumFiles];
static size_t fileCount;

static void read_files(const char *folder) {
    DIR *directory = opendir(folder);
    struct dirent *entry;
    while (directory && (entry = readdir(directory)) && fileCount < maximumFiles) {
        const char *ending = strrchr(entry->d_name, '.');
        if (!ending || (strcmp(ending, ".jpeg") && strcmp(ending, ".png") && strcmp(ending, ".gif") &&
                        strcmp(ending, ".webp"))) {
            continue;
        }
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        FILE *file = fopen(path, "rb");
        if (!file) continue;
        uint8_t *bytes = malloc(maximumBytes);
        files[fileCount++] = (File){bytes, fread(bytes, 1, maximumBytes, file)};
        fclose(file);
    }
    if (directory) closedir(directory);
}

static size_t mutate(uint8_t *bytes) {
    File file = files[below(fileCount)];
    size_t count = file.count;
    memcpy(bytes, file.bytes, count);
    for (size_t change = 0, changes = 1 + below(4); change < changes && count > 0; change++) {
        size_t at = below(below(3) ? count : count < 64 ? count : 64);  // a third of the changes in the header
        switch (below(8)) {
        case 0: count = at; break;
        case 1: {
            File other = files[below(fileCount)];
            size_t from = below(other.count), taken = other.count - from;
            if (at + taken > maximumBytes) taken = maximumBytes - at;
            memcpy(bytes + at, other.bytes + from, taken);
            count = at + taken;
            break;
        }
        case 2: {
            size_t removed = below(count - at);
            memmove(bytes + at, bytes + at + removed, count - at - removed);
            count -= removed;
            break;
        }
        case 3: {
            size_t repeated = below(count - at);
            if (count + repeated > maximumBytes) break;
            memmove(bytes + at + repeated, bytes + at, count - at);
            count += repeated;
            break;
        }
        case 4: bytes[at] = below(2) ? 0xff : 0; break;
        case 5: bytes[at] ^= (uint8_t)(1 << below(8)); break;
        default: bytes[at] = (uint8_t)below(256); break;
        }
    }
    return count;
}

static void fail(const char *what, const uint8_t *bytes, size_t count) {
    FILE *file = fopen("fuzz-failure", "wb");
    if (file) {
        fwrite(bytes, 1, count, file);
        fclose(file);
    }
    fprintf(stderr, "%s: see ./fuzz-failure\n", what);
    abort();
}

int main(int argumentCount, char **arguments) {
    if (argumentCount < 4) return 2;
    read_files(arguments[1]);
    long cases = atol(arguments[2]);
    state = 0x9e3779b97f4a7c15u ^ strtoull(arguments[3], NULL, 10);
    if (!fileCount) return 2;
    for (int i = 0; i < 16; i++) below(2);
    uint8_t *scratch = malloc(maximumBytes);
    long counts[CICStatusOutOfMemory + 1] = {0}, tooLarge = 0;
    double slowest = 0;
    for (long index = 0; index < cases; index++) {
        size_t count = mutate(scratch);
        // Exactly as large as the file, so that one byte too far is seen.
        uint8_t *bytes = malloc(count ? count : 1);
        memcpy(bytes, scratch, count);
        clock_t start = clock();
        CICImage image;
        CICStatus status = cic_describe(bytes, count, &image);
        if (status == CICStatusOK && (image.width <= 0 || image.height <= 0)) status = CICStatusBroken;
        if (status == CICStatusOK && (int64_t)image.width * image.height > 1 << 20) {
            tooLarge++;
        } else if (status == CICStatusOK) {
            CICResize resize = {
                .scaledWidth = (int32_t)(1 + below(60)), .scaledHeight = (int32_t)(1 + below(60)), .width = size,
                .height = size, .filter = (CICFilter)below(2), .fill = (uint8_t)below(256)};
            resize.left = (resize.scaledWidth - size) / 2;
            resize.top = (resize.scaledHeight - size) / 2;
            uint8_t *rgb = malloc(size * size * 3), *again = malloc(size * size * 3);
            CICImage copy = image;
            status = cic_decode_resized(bytes, count, &copy, &resize, rgb);
            if (below(4) == 0) {
                uint8_t *pixels = malloc(
                    (size_t)image.width * (size_t)image.height * (size_t)cic_bytes_per_pixel(image.mode));
                CICStatus decoded = cic_decode(bytes, count, &image, pixels);
                if (decoded != status) fail("one pass and two disagree about damage", bytes, count);
                resize.kernels = (CICKernels)below(3);
                if (status == CICStatusOK &&
                    (cic_resize(&image, pixels, &resize, again) != CICStatusOK ||
                     memcmp(rgb, again, size * size * 3) != 0)) {
                    fail("one pass and two give different pixels", bytes, count);
                }
                free(pixels);
            }
            free(rgb);
            free(again);
        }
        counts[status]++;
        double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        if (seconds > slowest) slowest = seconds;
        free(bytes);
    }
    free(scratch);
    printf(
        "%ld files: %ld read, %ld of unknown format, %ld truncated, %ld broken, %ld unsupported, %ld too large, "
        "%ld without memory; the slowest took %.0f ms\n",
        cases, counts[CICStatusOK] - tooLarge, counts[CICStatusUnknownFormat], counts[CICStatusTruncated],
        counts[CICStatusBroken], counts[CICStatusUnsupported], tooLarge, counts[CICStatusOutOfMemory], slowest * 1000);
    return 0;
}
