// What is done to a text before it is split into words: the normalizers of the `tokenizers` library.

import CTextTables

/// One step of a `normalizer`, or several in their order.
///
/// Texts are UTF-8. Most steps leave most texts alone, and say so after a look at their bytes.
indirect enum TextNormalizer: Sendable {
    case sequence([TextNormalizer])
    case canonical(composes: Bool)
    case compatible(composes: Bool)
    case lowercase
    case stripAccents
    case strip(left: Bool, right: Bool)
    case replace(TextPattern, [UInt8])
    case prepend([UInt8])
    case mapped(CharacterMap)
    case bert(BertNormalizer)
    case nmt
    case byteLevel

    /// Whether it may take away the text's first character, and so move the text's beginning.
    var dropsCharacters: Bool {
        switch self {
        case .sequence(let steps): steps.contains(where: \.dropsCharacters)
        case .stripAccents, .strip, .bert, .nmt: true
        case .replace(_, let content): content.isEmpty
        case .canonical, .compatible, .lowercase, .prepend, .mapped, .byteLevel: false
        }
    }

    func apply(_ text: inout [UInt8]) {
        switch self {
        case .sequence(let steps): for step in steps { step.apply(&text) }
        case .canonical(let composes): Self.decompose(&text, composes: composes, isCompatible: false)
        case .compatible(let composes): Self.decompose(&text, composes: composes, isCompatible: true)
        case .lowercase: Self.lowercase(&text)
        case .stripAccents:
            if !text.isASCII { Self.filter(&text) { !LibraryTraits($0).contains(.isMark) } }
        case .strip(let left, let right): Self.strip(&text, left: left, right: right)
        case .replace(let pattern, let content): Self.replace(&text, pattern, content)
        case .prepend(let prefix): if !text.isEmpty { text.insert(contentsOf: prefix, at: 0) }
        case .mapped(let map): text = Self.mapped(text.span, map)
        case .bert(let bert): bert.apply(&text)
        case .nmt: Self.nmt(&text)
        case .byteLevel: text = ByteLevel.spelled(text.span)
        }
    }

    fileprivate static func decompose(_ text: inout [UInt8], composes: Bool, isCompatible: Bool) {
        guard !text.isASCII else { return }
        let scalars = UTF8Text.scalars(text.span)
        text = UTF8Text.encoded(Normalization.normalized(scalars, composes: composes, isCompatible: isCompatible))
    }

    /// Character by character: a capital sigma becomes σ even at the end of a word.
    fileprivate static func lowercase(_ text: inout [UInt8]) {
        guard !text.isASCII else {
            for index in text.indices where text[index] &- UInt8(ascii: "A") < 26 { text[index] |= 0x20 }
            return
        }
        var scalars: [UInt32] = []
        scalars.reserveCapacity(text.count)
        for scalar in UTF8Text.scalars(text.span) {
            if scalar == 0x130 {
                scalars += [0x69, 0x307]  // İ, the only one with two
            } else {
                scalars.append(LibraryTraits(scalar).contains(.lowercases) ? textLaterLowercase(scalar) : scalar)
            }
        }
        text = UTF8Text.encoded(scalars)
    }

    fileprivate static func filter(_ text: inout [UInt8], _ keeps: (UInt32) -> Bool) {
        text = UTF8Text.encoded(UTF8Text.scalars(text.span).filter(keeps))
    }

    private static func strip(_ text: inout [UInt8], left: Bool, right: Bool) {
        let scalars = UTF8Text.scalars(text.span)
        var kept = scalars[...]
        if left { kept = kept.drop { LibraryTraits($0).contains(.isSpace) } }
        if right { while let last = kept.last, LibraryTraits(last).contains(.isSpace) { kept.removeLast() } }
        if kept.count < scalars.count { text = UTF8Text.encoded(Array(kept)) }
    }

    private static func replace(_ text: inout [UInt8], _ pattern: TextPattern, _ content: [UInt8]) {
        var result: [UInt8] = []
        var changes = false
        pattern.forEachPart(of: text.span, 0..<text.count) { range, isMatch in
            if isMatch {
                result += content
                changes = true
            } else {
                result += text[range]
            }
        }
        if changes { text = result }
    }

    /// `Precompiled`: clusters of fewer than six bytes as a whole, by the shortest key that they begin with (so that
    /// what follows the key is lost), and all others character by character.
    private static func mapped(_ text: Span<UInt8>, _ map: CharacterMap) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(text.count)
        func append(_ range: Range<Int>) -> Bool {
            guard let match = map.shortestMatch(in: text, range) else { return false }
            result += map.replacement(match)
            return true
        }
        var start = 0
        while start < text.count {
            let end = GraphemeCluster.end(in: text, from: start)
            if end - start < 6, append(start..<end) {
                start = end
                continue
            }
            while start < end {
                let length = min(UTF8Text.length(of: text[start]), end - start)
                if !append(start..<start + length) {
                    for index in start..<start + length { result.append(text[index]) }
                }
                start += length
            }
        }
        return result
    }

    private static func nmt(_ text: inout [UInt8]) {
        var scalars: [UInt32] = []
        scalars.reserveCapacity(text.count)
        for scalar in UTF8Text.scalars(text.span) {
            switch scalar {
            case 0x1...0x8, 0xB, 0xE...0x1F, 0x7F, 0x8F, 0x9F: break
            case 0x9, 0xA, 0xC, 0xD, 0x1680, 0x200B...0x200F, 0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD:
                scalars.append(0x20)
            default: scalars.append(scalar)
            }
        }
        text = UTF8Text.encoded(scalars)
    }
}

/// BERT's cleaning: `BertNormalizer`.
struct BertNormalizer: Sendable {
    /// Drops controls and makes all white space spaces.
    var cleans = true
    /// Puts spaces around ideographs.
    var splitsIdeographs = true
    var stripsAccents = true
    var lowercases = true

    func apply(_ text: inout [UInt8]) {
        if text.isASCII {
            if cleans { cleanASCII(&text) }
            if lowercases { TextNormalizer.lowercase(&text) }
            return
        }
        var scalars: [UInt32] = []
        scalars.reserveCapacity(text.count)
        for scalar in UTF8Text.scalars(text.span) {
            let traits = LibraryTraits(scalar)
            if cleans, traits.contains(.isDropped) { continue }
            if cleans, traits.contains(.isSpace) {
                scalars.append(0x20)
            } else if splitsIdeographs, Self.isIdeograph(scalar) {
                scalars += [0x20, scalar, 0x20]
            } else {
                scalars.append(scalar)
            }
        }
        text = UTF8Text.encoded(scalars)
        if stripsAccents {
            TextNormalizer.decompose(&text, composes: false, isCompatible: false)
            TextNormalizer.filter(&text) { !LibraryTraits($0).contains(.isNonspacing) }
        }
        if lowercases { TextNormalizer.lowercase(&text) }
    }

    private func cleanASCII(_ text: inout [UInt8]) {
        var write = 0
        for byte in text {
            switch byte {
            case 0x09...0x0D where byte != 0x0B && byte != 0x0C: text[write] = 0x20
            case ..<0x20, 0x7F: continue
            default: text[write] = byte
            }
            write += 1
        }
        text.removeLast(text.count - write)
    }

    private static func isIdeograph(_ scalar: UInt32) -> Bool {
        switch scalar {
        case 0x4E00...0x9FFF, 0x3400...0x4DBF, 0x20000...0x2A6DF, 0x2A700...0x2B73F, 0x2B740...0x2B81F,
            0x2B920...0x2CEAF, 0xF900...0xFAFF, 0x2F800...0x2FA1F:
            true
        default: false
        }
    }
}

/// Bytes spelt as visible characters, as GPT-2 does it (`bytes_to_unicode`).
enum ByteLevel {
    /// The scalar that stands for each byte: printable Latin-1 for itself, the others from U+0100 on.
    static let scalars: [UInt32] = {
        var next: UInt32 = 0x100
        return (0..<256).map { (byte: UInt32) in
            switch byte {
            case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: return byte
            default:
                next += 1
                return next - 1
            }
        }
    }()

    /// The UTF-8 of each byte's character.
    private static let spellings: [[UInt8]] = scalars.map { UTF8Text.encoded([$0]) }

    static func spelled(_ text: Span<UInt8>) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(text.count * 2)
        for index in text.indices { result += spellings[Int(text[index])] }
        return result
    }
}

/// Borders between what readers take for characters (Unicode Standard Annex 29), as far as clusters of fewer than six
/// bytes depend on them: that leaves out Indic conjuncts and pairs of regional indicators, which are longer.
enum GraphemeCluster {
    /// Where the cluster that begins at `start` ends.
    static func end(in text: Span<UInt8>, from start: Int) -> Int {
        // Between two ASCII characters there is a border, but for a line break of two.
        let first = text[start]
        if first < 0x80, start + 1 >= text.count || text[start + 1] < 0x80 {
            return first == 0x0D && start + 1 < text.count && text[start + 1] == 0x0A ? start + 2 : start + 1
        }
        var (scalar, length) = UTF8Text.scalar(text, at: start)
        var end = start + length
        var role = LibraryTraits(scalar).cluster
        /// Whether a picture stands before the marks that were read last.
        var followsPicture = role == .picture
        while end < text.count {
            let (next, nextLength) = UTF8Text.scalar(text, at: end)
            let nextRole = LibraryTraits(next).cluster
            guard role != .control, nextRole != .control else { break }
            let isJoined =
                nextRole == .extends || nextRole == .spacing || role == .prepends
                || (followsPicture && scalar == 0x200D && nextRole == .picture) || isHangul(scalar, next)
            guard isJoined else { break }
            followsPicture = nextRole == .picture || followsPicture && nextRole == .extends
            (scalar, role) = (next, nextRole)
            end += nextLength
        }
        return end
    }

    private static func isHangul(_ first: UInt32, _ second: UInt32) -> Bool {
        let isVowel = (0x1160...0x11A7).contains(second) || (0xD7B0...0xD7C6).contains(second)
        let isTail = (0x11A8...0x11FF).contains(second) || (0xD7CB...0xD7FB).contains(second)
        switch first {
        case 0x1100...0x115F, 0xA960...0xA97C:
            return isVowel || (0x1100...0x115F).contains(second) || (0xA960...0xA97C).contains(second)
                || (0xAC00...0xD7A3).contains(second)
        case 0x1160...0x11A7, 0xD7B0...0xD7C6: return isVowel || isTail
        case 0xAC00...0xD7A3: return isTail || isVowel && (first - 0xAC00) % 28 == 0
        case 0x11A8...0x11FF, 0xD7CB...0xD7FB: return isTail
        default: return false
        }
    }
}

extension [UInt8] {
    /// Whether no byte is above 0x7F.
    var isASCII: Bool {
        var high: UInt8 = 0
        for byte in self { high |= byte }
        return high < 0x80
    }
}
