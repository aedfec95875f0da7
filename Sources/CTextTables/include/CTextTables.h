// What tokenizers must know about characters, as tables in the binary. tools/make_text_tables.py and
// tools/make_tokenizer_tables.py ask the reference's own libraries for them, so that they follow those libraries'
// Unicode and not the Swift runtime's.
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

/// Bits of `textTraits`: what the `tokenizers` library takes a character for, by whichever of its crates is asked.
enum {
    textIsRegexLetter = 1 << 0,     ///< \p{L} of its regular expressions
    textIsRegexNumber = 1 << 1,     ///< \p{N}
    textIsRegexSpace = 1 << 2,      ///< \s
    textIsWordCharacter = 1 << 3,   ///< \w of the pre-tokenizer Whitespace
    textIsSpace = 1 << 4,           ///< `char::is_whitespace`
    textIsPunctuation = 1 << 5,     ///< of the pre-tokenizers Punctuation and BertPreTokenizer
    textIsNumeric = 1 << 6,         ///< `char::is_numeric`
    textIsDropped = 1 << 7,         ///< removed by BertNormalizer's cleaning
    textIsNonspacing = 1 << 8,      ///< removed by BertNormalizer's stripping of accents
    textIsMark = 1 << 9,            ///< removed by StripAccents
    textLowercasesLater = 1 << 10,  ///< changed by Lowercase
    textCombines = 1 << 11,         ///< has a combining class other than 0 in its version of Unicode
    textDecomposes = 1 << 12,       ///< changed by NFKD
    textClusterShift = 13,          ///< above: what it does to the borders of grapheme clusters
};

/// What a character does to the borders of grapheme clusters (Unicode Standard Annex 29).
enum { textOrdinary, textControl, textExtends, textSpacing, textPrepends, textPicture };

/// The traits of a character.
uint16_t textTraits(uint32_t scalar);

/// The lower-case form in a later version of Unicode than that of `textLowercase`, where it is one scalar.
uint32_t textLaterLowercase(uint32_t scalar);

/// The full compatibility decomposition (NFKD) where it is another than the canonical one; a null pointer where not.
const uint32_t *textCompatibilityDecomposition(uint32_t scalar, size_t *count);
