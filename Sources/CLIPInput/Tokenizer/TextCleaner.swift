// What the references do to a text before it is split into words: repair, unescape, lower-case, drop punctuation.

import CTextTables

/// The cleaning of openai-clip's tokenizer and those of open_clip and SigLIP: `ftfy.fix_text`, `html.unescape` twice,
/// `str.lower`, punctuation.
///
/// Text is an array of Unicode scalars, as a Python string is: Swift's characters would join what the reference splits.
/// `cleaned` leaves white space as it stands. The reference strips and collapses it here, but its pattern then ends words
/// at any white space and drops it, so nothing of that reaches the tokens.
enum TextCleaner {
    /// The text as openai-clip's tokenizer cleans it, as UTF-8.
    static func cleaned(_ text: String) -> [UInt8] {
        var scalars = text.unicodeScalars.map(\.value)
        scalars = FixText.fixText(scalars)
        scalars = HTMLEntities.unescaped(HTMLEntities.unescaped(scalars))
        return UTF8Text.encoded(lowercased(scalars))
    }

    /// What open_clip does to a text before a tokenizer of transformers sees it: `get_clean_fn`.
    enum Mode: String, Sendable {
        case whitespace, lower, canonicalize

        /// The cleaned text. White space is collapsed in every mode.
        func clean(_ text: String) -> [UInt8] {
            var scalars = FixText.fixText(text.unicodeScalars.map(\.value))
            scalars = HTMLEntities.unescaped(HTMLEntities.unescaped(scalars))
            switch self {
            case .whitespace: scalars = collapsed(scalars)
            case .lower: scalars = lowercased(collapsed(scalars))
            case .canonicalize:
                scalars = scalars.map { $0 == UInt32(UInt8(ascii: "_")) ? 0x20 : $0 }
                scalars = collapsed(lowercased(scalars.filter { !isPunctuation($0) }))
            }
            return UTF8Text.encoded(scalars)
        }
    }

    /// `SiglipTokenizer.canonicalize_text` of transformers: lower case, no ASCII punctuation, single spaces.
    static func withoutPunctuation(_ text: [UInt32], lowercases: Bool) -> [UInt32] {
        collapsed((lowercases ? lowercased(text) : text).filter { !isPunctuation($0) })
    }

    /// Python's `string.punctuation`.
    private static func isPunctuation(_ scalar: UInt32) -> Bool {
        switch scalar {
        case 0x21...0x2F, 0x3A...0x40, 0x5B...0x60, 0x7B...0x7E: true
        default: false
        }
    }

    /// `" ".join(text.split())`
    private static func collapsed(_ text: [UInt32]) -> [UInt32] {
        text.split(whereSeparator: isSpace).joined(separator: [0x20]).map(\.self)
    }

    /// Python's `str.isspace` of one character, and `\s` of its `re`.
    static func isSpace(_ scalar: UInt32) -> Bool {
        switch scalar {
        case 0x09...0x0D, 0x1C...0x20, 0x85, 0xA0, 0x1680, 0x2000...0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000: true
        default: false
        }
    }

    /// Python's `str.lower`: full case mapping, with the Greek sigma that ends a word.
    private static func lowercased(_ text: [UInt32]) -> [UInt32] {
        var result = [UInt32]()
        result.reserveCapacity(text.count + 1)
        for (index, scalar) in text.enumerated() {
            guard CharacterTraits(scalar).contains(.lowercases) else {
                result.append(scalar)
                continue
            }
            switch scalar {
            case 0x3A3: result.append(isFinalSigma(text, at: index) ? 0x3C2 : 0x3C3)
            case 0x130: result.append(contentsOf: [0x69, 0x307])  // İ, the only one with two
            default: result.append(textLowercase(scalar))
            }
        }
        return result
    }

    /// Whether a capital sigma stands after a cased character and before none, case-ignorable ones skipped.
    private static func isFinalSigma(_ text: [UInt32], at index: Int) -> Bool {
        func isCased(_ neighbours: some Sequence<UInt32>) -> Bool {
            let next = neighbours.first { !CharacterTraits($0).contains(.isCaseIgnorable) }
            return next.map { CharacterTraits($0).contains(.isCased) } ?? false
        }
        return isCased(text[..<index].reversed()) && !isCased(text[(index + 1)...])
    }
}

/// What the tokenizer's pattern sees in a character, in the version of Unicode of Python's `regex`.
enum CharacterClass: UInt8 {
    case letter, number, other
    /// Ends a word and belongs to none: white space, and U+0345, which the pattern skips because it folds to a letter.
    case separator

    init(_ scalar: UInt32) {
        self = CharacterClass(rawValue: textProperties(scalar) & UInt8(textClassMask)) ?? .separator
    }

    init(ascii byte: UInt8) {
        if byte | 0x20 >= UInt8(ascii: "a"), byte | 0x20 <= UInt8(ascii: "z") {
            self = .letter
        } else if byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") {
            self = .number
        } else {
            self = CharacterClass(UInt32(byte))
        }
    }
}

/// Properties of a character beside its class.
struct CharacterTraits: OptionSet {
    let rawValue: UInt8

    init(rawValue: UInt8) { self.rawValue = rawValue }
    init(_ scalar: UInt32) { rawValue = textProperties(scalar) }

    /// Matches `\w` of Python's `re`.
    static let isWord = CharacterTraits(rawValue: UInt8(textIsWord))
    static let isCased = CharacterTraits(rawValue: UInt8(textIsCased))
    static let isCaseIgnorable = CharacterTraits(rawValue: UInt8(textIsCaseIgnorable))
    static let lowercases = CharacterTraits(rawValue: UInt8(textLowercases))
    /// NFC may change it, or what stands before it may.
    static let normalises = CharacterTraits(rawValue: UInt8(textNormalises))
    /// In the tables of ftfy's heuristics or of its replacements.
    static let isSuspect = CharacterTraits(rawValue: UInt8(textIsSuspect))
}

extension TextParts {
    var scalars: [UInt32] { Array([parts.0, parts.1, parts.2, parts.3][..<Int(count)]) }
}
