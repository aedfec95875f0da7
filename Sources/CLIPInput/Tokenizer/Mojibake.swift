// UTF-8 that somebody read in a single-byte encoding ("cafÃ©"): finding it and turning it back, as ftfy 6.3 does.

import CTextTables

/// ftfy's `fix_encoding`: its heuristic of improbable character sequences, and its plan to undo them.
enum Mojibake {
    /// What C1 bytes are in Windows-1252; the five that it leaves open stay C1 controls.
    static let windows1252: [UInt32] = [
        0x20AC, 0x81, 0x201A, 0x192, 0x201E, 0x2026, 0x2020, 0x2021, 0x2C6, 0x2030, 0x160, 0x2039, 0x152, 0x8D, 0x17D,
        0x8F, 0x90, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x2DC, 0x2122, 0x161, 0x203A, 0x153, 0x9D,
        0x17E, 0x178,
    ]

    /// The encodings that ftfy tries, by their place in its list (`CHARMAP_ENCODINGS`).
    private enum Encoding {
        static let all: Range<Int32> = 0..<Int32(textEncodingCount)
        static let latin1: Int32 = 0
        /// Windows code pages, with U+FFFD as byte 1A and open bytes as C1 controls.
        static let sloppy: ClosedRange<Int32> = 1...6
        static let macRoman: Int32 = 8
    }

    /// Undoes one layer of wrong decoding after the other.
    static func fixEncoding(_ text: [UInt32]) -> [UInt32] {
        var text = text
        while let fixed = fixOneLayer(text), fixed != text { text = fixed }
        return text
    }

    /// `_fix_encoding_one_step_and_explain`; nil where nothing is wrong or nothing helps.
    private static func fixOneLayer(_ text: [UInt32]) -> [UInt32]? {
        guard Badness.isBad(text) else { return nil }

        var isLatin1 = false
        for encoding in Encoding.all {
            guard var bytes = encoded(text, encoding) else { continue }
            if encoding == Encoding.latin1 { isLatin1 = true }
            if encoding != Encoding.macRoman { bytes = restoringByteA0(bytes) }
            if Encoding.sloppy.contains(encoding) { bytes = replacingLossySequences(bytes) }
            let hasVariants = bytes.contains(0xED) || bytes.contains(0xC0)
            if let fixed = UTF8Text.decoded(bytes, variants: hasVariants) { return fixed }
        }

        let fixed = decodingInconsistentUTF8(text)
        if fixed != text { return fixed }

        // Latin-1 that was meant as Windows-1252, if that has a character for every byte.
        if isLatin1, !text.contains(where: { [0x81, 0x8D, 0x8F, 0x90, 0x9D].contains($0) }) {
            let fixed = fixingC1Controls(text)
            if fixed != text { return fixed }
        }
        return fixingC1Controls(text)
    }

    private static func fixingC1Controls(_ text: [UInt32]) -> [UInt32] {
        text.map { $0 >= 0x80 && $0 < 0xA0 ? windows1252[Int($0 - 0x80)] : $0 }
    }

    /// The bytes that the text is in an encoding, or nil if the encoding lacks one of its characters.
    private static func encoded(_ text: [UInt32], _ encoding: Int32) -> [UInt8]? {
        var bytes = [UInt8]()
        bytes.reserveCapacity(text.count + 1)
        for scalar in text {
            if scalar < 0x80 {
                // In the sloppy encodings byte 1A stands for U+FFFD.
                if scalar == 0x1A, Encoding.sloppy.contains(encoding) { return nil }
                bytes.append(UInt8(scalar))
            } else {
                let byte = textEncodedByte(scalar, encoding)
                if byte == 0 { return nil }
                bytes.append(byte)
            }
        }
        return bytes
    }

    // MARK: Byte patterns

    /// A byte string with look-ups beyond its end, which give 0: a byte that none of the patterns below takes.
    private struct Bytes {
        let bytes: [UInt8]
        subscript(_ position: Int) -> UInt8 { position < bytes.count ? bytes[position] : 0 }

        func replacing(_ length: (Bytes, Int) -> Int, by replacement: (ArraySlice<UInt8>) -> [UInt8]) -> [UInt8] {
            var result = [UInt8]()
            result.reserveCapacity(bytes.count)
            var position = 0
            while position < bytes.count {
                let length = length(self, position)
                if length > 0 {
                    result.append(contentsOf: replacement(bytes[position..<position + length]))
                    position += length
                } else {
                    result.append(bytes[position])
                    position += 1
                }
            }
            return result
        }
    }

    /// `restore_byte_a0`: byte A0, a no-break space in Latin-1, is often found as a plain space.
    private static func restoringByteA0(_ bytes: [UInt8]) -> [UInt8] {
        let text = Bytes(bytes: bytes)
        guard bytes.indices.contains(where: { alteredSequenceLength(text, $0) > 0 }) else { return bytes }
        let withWords = text.replacing(loneAGraveLength) { _ in [0xC3, 0xA0, 0x20] }
        return Bytes(bytes: withWords).replacing(alteredSequenceLength) { $0.map { $0 == 0x20 ? 0xA0 : $0 } }
    }

    /// `A_GRAVE_WORD_RE`: "Ã " is "à" as a word of its own, unless it begins one of some Portuguese words.
    private static func loneAGraveLength(_ text: Bytes, _ position: Int) -> Int {
        guard text[position] == 0xC3, text[position + 1] == 0x20 else { return 0 }
        let rest = text.bytes[(position + 2)...]
        let isPartOfWord = [" ", "quele", "quela", "quilo", "s "].contains { rest.starts(with: $0.utf8) }
        return isPartOfWord ? 0 : 2
    }

    /// `ALTERED_UTF8_RE`: what would be a UTF-8 sequence if a space in it were byte A0.
    private static func alteredSequenceLength(_ text: Bytes, _ position: Int) -> Int {
        let (second, third, fourth) = (text[position + 1], text[position + 2], text[position + 3])
        func isContinuation(_ byte: UInt8) -> Bool { byte & 0xC0 == 0x80 }
        // Bytes 85 and A0 are left out where the result would be an unlikely character.
        func isLikely(_ byte: UInt8) -> Bool { isContinuation(byte) && byte != 0x85 && byte != 0xA0 }
        switch text[position] {
        case 0xC2, 0xC3, 0xC5, 0xCE, 0xD0, 0xD9:
            return second == 0x20 ? 2 : 0
        case 0xE0...0xE3:
            if text[position] >= 0xE2, second == 0x20, isLikely(third) { return 3 }
            return isLikely(second) && third == 0x20 ? 3 : 0
        case 0xF0:
            let bytes = [second, third, fourth]
            let isSequence = bytes.allSatisfy { $0 == 0x20 || isContinuation($0) }
            return isSequence && bytes.count { $0 == 0x20 } == 1 ? 4 : 0
        default:
            return 0
        }
    }

    /// `replace_lossy_sequences`: UTF-8 in which a byte was lost, to U+FFFD (here 1A) or to a question mark.
    private static func replacingLossySequences(_ bytes: [UInt8]) -> [UInt8] {
        guard bytes.contains(where: { $0 == 0x1A || $0 == 0x3F }) else { return bytes }
        return Bytes(bytes: bytes).replacing(lossySequenceLength) { _ in [0xEF, 0xBF, 0xBD] }
    }

    /// `LOSSY_UTF8_RE`, alternatives in its order.
    private static func lossySequenceLength(_ text: Bytes, _ position: Int) -> Int {
        let first = text[position]
        func isLost(_ offset: Int) -> Bool { [0x1A, 0x3F].contains(text[position + offset]) }
        func isContinuation(_ offset: Int) -> Bool { text[position + offset] & 0xC0 == 0x80 }
        /// Lost as U+FFFD, or still there. A question mark counts once in a sequence at most.
        func isLostOrContinuation(_ offset: Int) -> Bool { text[position + offset] == 0x1A || isContinuation(offset) }

        if first >= 0xC2, first <= 0xDF, text[position + 1] == 0x1A { return 2 }
        if first == 0xC2 || first == 0xC3, text[position + 1] == 0x3F { return 2 }
        // A surrogate pair, three bytes each
        if first == 0xED, (0xA0...0xAF).contains(text[position + 1]), text[position + 3] == 0xED,
            (0xB0...0xBF).contains(text[position + 4]),
            isLost(2) && (isLost(5) || isContinuation(5)) || (isLost(2) || isContinuation(2)) && isLost(5)
        {
            return 6
        }
        if first >= 0xE0, first <= 0xEF,
            isLost(1) && isLostOrContinuation(2) || isLostOrContinuation(1) && isLost(2)
        {
            return 3
        }
        if first >= 0xF0, first <= 0xF4,
            isLost(1) && isLostOrContinuation(2) && isLostOrContinuation(3)
                || isLostOrContinuation(1) && isLost(2) && isLostOrContinuation(3)
                || isLostOrContinuation(1) && isLostOrContinuation(2) && isLost(3)
        {
            return 4
        }
        return first == 0x1A ? 1 : 0
    }

    // MARK: Mojibake amid other text

    /// `decode_inconsistent_utf8`: runs that look like UTF-8 sequences are repaired each for itself.
    private static func decodingInconsistentUTF8(_ text: [UInt32]) -> [UInt32] {
        let categories = text.map { Categories($0) }
        /// The length of one sequence, by what its first character would be as a byte.
        func sequenceLength(_ position: Int) -> Int {
            let length =
                categories[position].contains(.firstOfTwo) ? 2 : categories[position].contains(.firstOfThree) ? 3 : 4
            let isFirst = !categories[position].isDisjoint(with: [.firstOfTwo, .firstOfThree, .firstOfFour])
            guard isFirst, position + length <= text.count else { return 0 }
            let rest = position + 1..<position + length
            return rest.allSatisfy { categories[$0].contains(.continuation) || text[$0] == 0x20 } ? length : 0
        }
        var result = [UInt32]()
        result.reserveCapacity(text.count)
        var position = 0
        while position < text.count {
            var end = position
            // Not in the middle of a garble: a few characters of it would only make things worse.
            if position == 0 || !categories[position - 1].contains(.strictContinuation) {
                while end < text.count, case let length = sequenceLength(end), length > 0 { end += length }
            }
            if end > position {
                let part = Array(text[position..<end])
                // The whole text has been tried already.
                let isFixable = part.count < text.count && Badness.isBad(part)
                result.append(contentsOf: isFixable ? fixEncoding(part) : part)
                position = end
            } else {
                result.append(text[position])
                position += 1
            }
        }
        return result
    }
}
