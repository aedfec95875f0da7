#include "CTextTables.h"

#include <string.h>

#include "Data/tables.inc"
#include "Data/tokenizers.inc"

// Properties in two stages: a block number for each run of 128 characters, then the blocks.
static const uint8_t properties[] = {
#embed "Data/properties.bin"
};
enum { blockBits = 7, blockCount = 0x110000 >> blockBits };

uint8_t textProperties(uint32_t scalar) {
    if (scalar >= 0x110000) return 3;
    uint32_t block = properties[scalar >> blockBits];
    return properties[blockCount + (block << blockBits) + (scalar & ((1 << blockBits) - 1))];
}

// Sets `row` to the row of a sorted table whose `field` is `key`, or to a null pointer.
#define FIND(row, table, field, key)                                                                                   \
    const typeof(table[0]) *row = nullptr;                                                                             \
    for (size_t low = 0, high = sizeof table / sizeof table[0]; low < high && !row;) {                                 \
        size_t middle = (low + high) / 2;                                                                              \
        if (table[middle].field == (key)) row = &table[middle];                                                        \
        else if (table[middle].field < (key)) low = middle + 1;                                                        \
        else high = middle;                                                                                            \
    }

uint32_t textLowercase(uint32_t scalar) {
    FIND(row, lowercase, scalar, scalar)
    return row ? row->lower : scalar;
}

uint8_t textCombiningClass(uint32_t scalar) {
    for (size_t low = 0, high = sizeof combining / sizeof combining[0]; low < high;) {
        size_t middle = (low + high) / 2;
        if (scalar < combining[middle].first) high = middle;
        else if (scalar > combining[middle].last) low = middle + 1;
        else return (uint8_t)combining[middle].class;
    }
    return 0;
}

TextParts textDecomposition(uint32_t scalar) {
    FIND(row, decompositions, scalar, scalar)
    return row ? row->parts : (TextParts){};
}

uint32_t textComposition(uint32_t first, uint32_t second) {
    for (size_t low = 0, high = sizeof compositions / sizeof compositions[0]; low < high;) {
        size_t middle = (low + high) / 2;
        uint64_t here = (uint64_t)compositions[middle].first << 32 | compositions[middle].second;
        uint64_t key = (uint64_t)first << 32 | second;
        if (here == key) return compositions[middle].composed;
        if (here < key) low = middle + 1;
        else high = middle;
    }
    return 0;
}

TextParts textReplacement(uint32_t scalar) {
    FIND(row, replacements, scalar, scalar)
    return row ? row->parts : (TextParts){};
}

uint32_t textMojibakeCategories(uint32_t scalar) {
    FIND(row, suspects, scalar, scalar)
    return row ? row->categories : 0;
}

uint8_t textEncodedByte(uint32_t scalar, int encoding) {
    FIND(row, suspects, scalar, scalar)
    return row ? row->bytes[encoding] : 0;
}

TextParts textEntity(const uint8_t *name, size_t length, bool ofFtfy) {
    if (length >= sizeof entities[0].name) return (TextParts){};
    for (size_t low = 0, high = sizeof entities / sizeof entities[0]; low < high;) {
        size_t middle = (low + high) / 2;
        int order = strncmp((const char *)name, entities[middle].name, length);
        if (order == 0 && entities[middle].name[length]) order = -1;  // a prefix of that name
        if (order == 0) {
            bool isKnown = ofFtfy ? entities[middle].inFtfy : entities[middle].inHTML;
            return isKnown ? entities[middle].parts : (TextParts){};
        }
        if (order > 0) low = middle + 1;
        else high = middle;
    }
    return (TextParts){};
}

// Two stages again, of 16-bit numbers.
static const uint8_t traits[] = {
#embed "Data/tokenizers.bin"
};

static uint16_t traitsWord(uint32_t index) { return (uint16_t)(traits[2 * index] | traits[2 * index + 1] << 8); }

uint16_t textTraits(uint32_t scalar) {
    if (scalar >= 0x110000) return 0;
    uint32_t block = traitsWord(scalar >> blockBits);
    return traitsWord(blockCount + (block << blockBits) + (scalar & ((1 << blockBits) - 1)));
}

uint32_t textLaterLowercase(uint32_t scalar) {
    FIND(row, laterLowercase, scalar, scalar)
    return row ? row->lower : textLowercase(scalar);
}

const uint32_t *textCompatibilityDecomposition(uint32_t scalar, size_t *count) {
    FIND(row, compatibility, scalar, scalar)
    *count = row ? row->count : 0;
    return row ? &compatibilityParts[row->start] : nullptr;
}
