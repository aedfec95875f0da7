// Facts about characters as the `tokenizers` library knows them.

import CTextTables

/// What the `tokenizers` library takes a character for. Its crates hold several versions of Unicode, so each trait is
/// asked of the part of the library that uses it.
struct LibraryTraits: OptionSet {
    let rawValue: UInt16

    init(rawValue: UInt16) { self.rawValue = rawValue }
    init(_ scalar: UInt32) { rawValue = textTraits(scalar) }

    static let isRegexLetter = LibraryTraits(rawValue: UInt16(textIsRegexLetter))
    static let isRegexNumber = LibraryTraits(rawValue: UInt16(textIsRegexNumber))
    static let isRegexSpace = LibraryTraits(rawValue: UInt16(textIsRegexSpace))
    static let isWordCharacter = LibraryTraits(rawValue: UInt16(textIsWordCharacter))
    static let isSpace = LibraryTraits(rawValue: UInt16(textIsSpace))
    static let isPunctuation = LibraryTraits(rawValue: UInt16(textIsPunctuation))
    static let isNumeric = LibraryTraits(rawValue: UInt16(textIsNumeric))
    static let isDropped = LibraryTraits(rawValue: UInt16(textIsDropped))
    static let isNonspacing = LibraryTraits(rawValue: UInt16(textIsNonspacing))
    static let isMark = LibraryTraits(rawValue: UInt16(textIsMark))
    static let lowercases = LibraryTraits(rawValue: UInt16(textLowercasesLater))
    static let combines = LibraryTraits(rawValue: UInt16(textCombines))
    static let decomposes = LibraryTraits(rawValue: UInt16(textDecomposes))

    /// What the character does to the borders of grapheme clusters.
    var cluster: ClusterRole { ClusterRole(rawValue: rawValue >> UInt16(textClusterShift)) ?? .ordinary }
}

/// What a character does to the borders of grapheme clusters.
enum ClusterRole: UInt16 {
    case ordinary, control, extends, spacing, prepends, picture
}
