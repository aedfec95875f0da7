// ftfy's test for mojibake: sequences of characters that hardly anybody would write.

import CTextTables

/// The categories in which ftfy's heuristics sort the characters that occur in mojibake.
struct Categories: OptionSet {
    let rawValue: UInt32

    init(rawValue: UInt32) { self.rawValue = rawValue }
    init(_ scalar: UInt32) {
        let isSuspect = CharacterTraits(scalar).contains(.isSuspect)
        rawValue = isSuspect ? textMojibakeCategories(scalar) : 0
    }

    // `MOJIBAKE_CATEGORIES`; the bits are those of tools/make_text_tables.py.
    static let c1 = Categories(rawValue: 1 << 0)
    static let bad = Categories(rawValue: 1 << 1)
    static let common = Categories(rawValue: 1 << 2)
    static let law = Categories(rawValue: 1 << 3)
    static let currency = Categories(rawValue: 1 << 4)
    static let startPunctuation = Categories(rawValue: 1 << 5)
    static let endPunctuation = Categories(rawValue: 1 << 6)
    static let numeric = Categories(rawValue: 1 << 7)
    static let kaomoji = Categories(rawValue: 1 << 8)
    static let upperAccented = Categories(rawValue: 1 << 9)
    static let lowerAccented = Categories(rawValue: 1 << 10)
    static let upperCommon = Categories(rawValue: 1 << 11)
    static let lowerCommon = Categories(rawValue: 1 << 12)
    static let box = Categories(rawValue: 1 << 13)

    // `UTF8_CLUES`: what byte of a UTF-8 sequence the character would be in some encoding.
    static let firstOfTwo = Categories(rawValue: 1 << 14)
    static let firstOfThree = Categories(rawValue: 1 << 15)
    static let firstOfFour = Categories(rawValue: 1 << 16)
    static let continuation = Categories(rawValue: 1 << 17)
    /// Without those that often stand for themselves: dashes, quotes, bullet, ellipsis.
    static let strictContinuation = Categories(rawValue: 1 << 18)

    static let accented: Categories = [.upperAccented, .lowerAccented]
}

/// `BADNESS_RE`, without the regular expression.
enum Badness {
    static func isBad(_ text: [UInt32]) -> Bool {
        // Every rule needs a character of the tables.
        guard text.contains(where: { CharacterTraits($0).contains(.isSuspect) }) else { return false }
        let text = Text(scalars: text, categories: text.map { Categories($0) })
        return text.scalars.indices.contains { position in
            isBadByCategory(text, position) || isBadByCharacter(text, position)
        }
    }

    /// Text and categories with look-ups beyond the end, which give U+0000 and no category: no rule takes those.
    private struct Text {
        let scalars: [UInt32]
        let categories: [Categories]

        func scalar(_ position: Int) -> UInt32 { position < scalars.count ? scalars[position] : 0 }

        func isIn(_ position: Int, _ set: Categories) -> Bool {
            position < categories.count && !categories[position].isDisjoint(with: set)
        }

        func isOne(_ position: Int, of characters: Set<UInt32>) -> Bool {
            position < scalars.count && characters.contains(scalars[position])
        }

        func isLower(_ position: Int) -> Bool { (0x61...0x7A).contains(scalar(position)) }
        func isLetter(_ position: Int) -> Bool { (0x61...0x7A).contains(scalar(position) | 0x20) }
        func isSpace(_ position: Int) -> Bool { position < scalars.count && TextCleaner.isSpace(scalars[position]) }
        func isWord(_ position: Int) -> Bool {
            position < scalars.count && CharacterTraits(scalars[position]).contains(.isWord)
        }
    }

    /// Sequences of two or three categories that are bad wherever they stand.
    private static let sequences: [[Categories]] = {
        let symbols: Categories = [
            .accented, .box, .startPunctuation, .endPunctuation, .currency, .numeric, .law,
        ]
        return [
            [.c1],
            [symbols.union(.bad), .bad],
            [.bad, symbols],
            [[.lowerAccented, .lowerCommon, .box, .endPunctuation, .currency, .numeric], .upperAccented],
            [[.box, .endPunctuation, .currency, .numeric], .lowerAccented],
            [[.lowerAccented, .box, .endPunctuation], .currency],
            [[.upperAccented, .box], [.numeric, .law]],
            [[.accented, .box, .currency, .endPunctuation], .startPunctuation, .numeric],
            [[.accented, .currency, .numeric, .box, .law], .endPunctuation, .startPunctuation],
            [[.currency, .numeric, .box], .startPunctuation],
            [.box, .kaomoji],
            [[.accented, .currency, .numeric, .startPunctuation, .endPunctuation, .law], .box],
            [.box, .endPunctuation],
        ]
    }()

    private static func isBadByCategory(_ text: Text, _ position: Int) -> Bool {
        sequences.contains { sequence in
            sequence.indices.allSatisfy { text.isIn(position + $0, sequence[$0]) }
        }
    }

    /// Rules that look at single characters or at ASCII beside the categories.
    private static func isBadByCharacter(_ text: Text, _ position: Int) -> Bool {
        let (first, second, third) = (position, position + 1, position + 2)
        let quotes: Categories = [.startPunctuation, .endPunctuation]

        if text.isLetter(first), text.isIn(second, [.lowerCommon, .upperCommon]), text.isIn(third, .bad) {
            return true
        }
        if text.isIn(second, .upperAccented) {
            if text.isSpace(first), text.isIn(third, .currency) { return true }
            if text.isLower(first), text.isIn(third, [.startPunctuation, .currency]) { return true }
        }
        if text.isIn(first, .accented), text.isIn(second, quotes), text.isWord(third) { return true }
        if text.isIn(first, .upperAccented), text.scalar(second) == 0xB0 { return true }  // a degree sign

        // Â or Ã before a space, which may have been byte A0
        let isAHat = { (position: Int) in text.isOne(position, of: [0xC2, 0xC3]) && text.scalar(position + 1) == 0x20 }
        if position == 0, isAHat(first) { return true }
        if text.isLower(first), isAHat(second) || text.isSpace(second) && isAHat(third) { return true }

        // Â before something that is its own encoding
        if text.isLower(first) || text.isOne(first, of: asciiPunctuation) || text.isIn(first, .endPunctuation),
            text.scalar(second) == 0xC2, text.scalar(third) == 0x20 || text.isIn(third, quotes)
        {
            return true
        }

        switch text.scalar(first) {
        case 0x152, 0x153:  // Œ, œ before anything but an unaccented Latin letter
            return second < text.scalars.count && !text.isLetter(second)
        case 0xC2, 0xC3, 0xCE, 0xD0:  // Â Ã Î Ð in Windows-1252
            if text.isOne(second, of: afterLatinLead) || text.isIn(second, quotes) { return true }
            return text.scalar(first) == 0xC3 && text.isOne(second, of: [0xA0, 0xA1])
        case 0xD7:  // ×
            return text.isOne(second, of: [0xB2, 0xB3])
        case 0xD8, 0xD9:  // Ø Ù, Arabic in Windows-1252, where two such pairs follow each other
            return isArabicPair(text, position) && isArabicPair(text, position + 2)
        case 0xE0:  // à, South Asian alphabets in Windows-1252
            return text.isOne(second, of: [0xB2, 0xB5, 0xB9, 0xBC, 0xBD, 0xBE])
        case 0x221A:  // √ in MacRoman
            return text.isOne(second, of: afterRoot)
        case 0x2248:  // ≈ in MacRoman
            return text.isOne(second, of: [0xB0, 0xA2])
        case 0x201A:  // ‚Ä and ‚â, ‚ó in MacRoman
            return text.scalar(second) == 0xC4 && text.isOne(third, of: afterLowQuoteAndA)
                || text.isOne(second, of: [0xE2, 0xF3]) && text.isOne(third, of: [0xE0, 0xE4, 0xB0, 0xEA])
        case 0x432:  // вЂ, U+2000... in Windows-1251
            return text.scalar(second) == 0x402
        case 0x412, 0x413, 0x420, 0x421:  // В Г Р С, Latin-1 or Cyrillic in Windows-1251
            if text.isIn(second, [.c1, .bad, quotes, .currency]) || text.isOne(second, of: [0xB0, 0xB5]),
                text.isOne(third, of: [0x412, 0x413, 0x420, 0x421])
            {
                return true
            }
            // ГўВЂВ, Windows-1251 upon Latin-1, near a Latin letter
            let isDouble = text.scalars[position...].starts(with: [0x413, 0x45E, 0x412, 0x402, 0x412])
            return isDouble && text.scalar(position + 5) != 0x0A
                && (text.isLetter(position + 6) || text.scalar(position + 6) == 0x20)
        case 0x3B2:  // β€, U+2000... in Windows-1253
            return text.scalar(second) == 0x20AC && text.isOne(third, of: [0x2122, 0xA0, 0x386, 0xAD, 0xAE, 0xB0])
        case 0x392, 0x393, 0x39E, 0x39F:  // Β Γ Ξ Ο, Latin-1 or Greek in Windows-1253
            return (text.isIn(second, [.c1, .bad, quotes, .currency]) || text.scalar(second) == 0xB0)
                && text.isOne(third, of: [0x392, 0x393, 0x39E, 0x39F])
        case 0x101:  // ā€, U+2000... in Windows-1257
            return text.scalar(second) == 0x20AC
        default:
            return false
        }
    }

    private static func isArabicPair(_ text: Text, _ position: Int) -> Bool {
        text.isOne(position, of: [0xD8, 0xD9])
            && (text.isIn(position + 1, [.common, .currency, .bad, .numeric, .startPunctuation])
                || text.isOne(position + 1, of: afterArabicLead))
    }

    private static let asciiPunctuation: Set<UInt32> = [0x21, 0x2C, 0x2E, 0x3F]  // ! , . ?
    /// € œ Š š ¢ £ Ÿ ž, no-break space, soft hyphen, ® © ° · » – — ´
    private static let afterLatinLead: Set<UInt32> = [
        0x20AC, 0x153, 0x160, 0x161, 0xA2, 0xA3, 0x178, 0x17E, 0xA0, 0xAD, 0xAE, 0xA9, 0xB0, 0xB7, 0xBB, 0x2013, 0x2014,
        0xB4,
    ]
    /// Ÿ Š ® ° µ »
    private static let afterArabicLead: Set<UInt32> = [0x178, 0x160, 0xAE, 0xB0, 0xB5, 0xBB]
    /// ± ∂ † ≠ ® ™ ´ ≤ ≥ ¥ µ ø
    private static let afterRoot: Set<UInt32> = [
        0xB1, 0x2202, 0x2020, 0x2260, 0xAE, 0x2122, 0xB4, 0x2264, 0x2265, 0xA5, 0xB5, 0xF8,
    ]
    /// ì î ï ò ô ú ù û † ° ¢ π
    private static let afterLowQuoteAndA: Set<UInt32> = [
        0xEC, 0xEE, 0xEF, 0xF2, 0xF4, 0xFA, 0xF9, 0xFB, 0x2020, 0xB0, 0xA2, 0x3C0,
    ]
}
