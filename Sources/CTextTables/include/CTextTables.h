// What CLIP's tokenizer must know about characters, as tables in the binary. tools/make_text_tables.py asks the
// reference's own libraries for them, so that they follow those libraries' Unicode and not the Swift runtime's.
// Every function takes Unicode scalar values below 0x110000 and has no state.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Up to four characters; none where a look-up found nothing.
typedef struct {
    uint32_t count;
    uint32_t parts[4];
} TextParts;

/// Bits of `textProperties`.
enum {
    textClassMask = 3,           ///< 0 letter, 1 number, 2 other, 3 separator: what the tokenizer's pattern sees
    textIsWord = 1 << 2,         ///< matches \w of Python's `re`
    textIsCased = 1 << 3,        ///< cased, for the final sigma of `str.lower`
    textIsCaseIgnorable = 1 << 4,
    textLowercases = 1 << 5,     ///< `str.lower` changes it
    textNormalises = 1 << 6,     ///< NFC may change it, or it may change by what stands before it
    textIsSuspect = 1 << 7,      ///< in the tables of ftfy's mojibake heuristics or of its replacements
};

/// The properties of a character.
uint8_t textProperties(uint32_t scalar);

/// The lower-case form, where it is one scalar (İ alone has two).
uint32_t textLowercase(uint32_t scalar);

/// The canonical combining class.
uint8_t textCombiningClass(uint32_t scalar);

/// The full canonical decomposition, if there is one. Not for Hangul syllables.
TextParts textDecomposition(uint32_t scalar);

/// The character that NFC makes of two, or 0. Not for Hangul.
uint32_t textComposition(uint32_t first, uint32_t second);

/// What ftfy puts in place of the character (C1 controls, ligatures, widths, quotes), if it does.
TextParts textReplacement(uint32_t scalar);

/// The categories of ftfy's mojibake heuristics that the character belongs to, as bits.
uint32_t textMojibakeCategories(uint32_t scalar);

/// The number of single-byte encodings that mojibake may come from, in the order in which ftfy tries them.
enum { textEncodingCount = 10 };

/// The byte that a character above U+007F is in an encoding, or 0 if it is not in it.
uint8_t textEncodedByte(uint32_t scalar, int encoding);

/// Looks up an HTML entity by its name, without the ampersand and with the semicolon if it has one, among those that
/// Python's `html.unescape` knows or among ftfy's.
TextParts textEntity(const uint8_t *name, size_t length, bool ofFtfy);
