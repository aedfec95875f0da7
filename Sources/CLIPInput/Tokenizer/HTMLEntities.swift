// HTML character references, as Python's html.unescape and as ftfy decode them: HTML5's names, numbers, and the odd cases.

import CTextTables

enum HTMLEntities {
    private static let ampersand = UInt32(UInt8(ascii: "&"))
    private static let numberSign = UInt32(UInt8(ascii: "#"))
    private static let semicolon = UInt32(UInt8(ascii: ";"))

    /// Python's `html.unescape`: with or without semicolon, names by their longest prefix that is one.
    static func unescaped(_ text: [UInt32]) -> [UInt32] {
        replacingReferences(in: text) { text, start in
            guard start + 1 < text.count else { return nil }
            if text[start + 1] == numberSign { return numeric(text, at: start) }
            // The reference's pattern takes up to 32 characters that are not space, <, &, # or ; and then looks for
            // the longest known prefix of at least two. Names are ASCII letters and digits, so only those can count.
            let end = endOfName(text, from: start + 1, limit: 32)
            let hasSemicolon = end < text.count && text[end] == semicolon
            var length = end - start - 1
            if hasSemicolon, let parts = named(text[(start + 1)...end], ofFtfy: false) { return (parts, length + 2) }
            while length > 1 {
                if let parts = named(text[(start + 1)...(start + length)], ofFtfy: false) { return (parts, length + 1) }
                length -= 1
            }
            return nil
        }
    }

    /// ftfy's `unescape_html`: only with a semicolon, and some names in capitals too.
    static func unescapedAsFtfy(_ text: [UInt32]) -> [UInt32] {
        replacingReferences(in: text, isRepeated: true) { text, start in
            let isNumeric = start + 1 < text.count && text[start + 1] == numberSign
            let end = endOfName(text, from: start + (isNumeric ? 2 : 1), limit: 24)
            guard end < text.count, text[end] == semicolon else { return nil }
            if isNumeric {
                // The whole reference must be used up, and must not leave a semicolon (`&#59;`).
                guard let (parts, length) = numeric(text, at: start), start + length == end + 1, parts != [semicolon]
                else { return nil }
                return (parts, length)
            }
            return named(text[(start + 1)...end], ofFtfy: true).map { ($0, end + 1 - start) }
        }
    }

    /// Replaces each ampersand for which `reference` gives characters and how many scalars they stand for.
    private static func replacingReferences(
        in text: [UInt32], isRepeated: Bool = false, reference: ([UInt32], Int) -> (parts: [UInt32], length: Int)?
    ) -> [UInt32] {
        guard text.contains(ampersand) else { return text }
        var result = [UInt32]()
        result.reserveCapacity(text.count)
        var position = 0
        while position < text.count {
            if text[position] == ampersand, let (parts, length) = reference(text, position) {
                result.append(contentsOf: parts)
                position += length
                if isRepeated, parts == [ampersand] { position = lastOfNested(text, position, reference) }
            } else {
                result.append(text[position])
                position += 1
            }
        }
        return result
    }

    /// Behind an ampersand that was written as a reference: where those that it begins, each of which is an ampersand again
    /// (`&amp;amp;amp;`), come to the last but one. They would be taken away one a pass, each over the whole text.
    private static func lastOfNested(
        _ text: [UInt32], _ start: Int, _ reference: ([UInt32], Int) -> (parts: [UInt32], length: Int)?
    ) -> Int {
        /// Where a reference ends that lacks its ampersand.
        func end(_ start: Int) -> Int? {
            guard let (parts, length) = reference(text, start - 1), parts == [ampersand] else { return nil }
            return start - 1 + length
        }
        var position = start
        while let next = end(position), end(next) != nil { position = next }
        return position
    }

    private static func endOfName(_ text: [UInt32], from start: Int, limit: Int) -> Int {
        var end = start
        while end < text.count, end - start < limit, isAlphanumeric(text[end]) { end += 1 }
        return end
    }

    private static func isAlphanumeric(_ scalar: UInt32) -> Bool {
        digit(scalar, radix: 10) != nil || (scalar | 0x20 >= 0x61 && scalar | 0x20 <= 0x7A)
    }

    private static func named(_ name: ArraySlice<UInt32>, ofFtfy: Bool) -> [UInt32]? {
        let bytes = name.map { UInt8(truncatingIfNeeded: $0) }
        let parts = textEntity(bytes, bytes.count, ofFtfy)
        return parts.count > 0 ? parts.scalars : nil
    }

    /// `&#123;` or `&#x7B;`, semicolon optional. A number that HTML forbids becomes nothing, one out of range U+FFFD.
    private static func numeric(_ text: [UInt32], at start: Int) -> (parts: [UInt32], length: Int)? {
        var position = start + 2
        let isHexadecimal = position < text.count && text[position] | 0x20 == UInt32(UInt8(ascii: "x"))
        if isHexadecimal { position += 1 }
        let firstDigit = position
        var number: UInt32 = 0
        while position < text.count, let digit = digit(text[position], radix: isHexadecimal ? 16 : 10) {
            number = min(number * (isHexadecimal ? 16 : 10) + digit, 0x110000)  // all beyond Unicode are alike
            position += 1
        }
        guard position > firstDigit else { return nil }
        if position < text.count, text[position] == semicolon { position += 1 }
        return (character(number), position - start)
    }

    private static func digit(_ scalar: UInt32, radix: UInt32) -> UInt32? {
        switch scalar {
        case 0x30...0x39: scalar - 0x30
        case 0x41...0x46 where radix == 16: scalar - 0x41 + 10
        case 0x61...0x66 where radix == 16: scalar - 0x61 + 10
        default: nil
        }
    }

    /// What a numeric reference stands for by HTML5: C1 controls are taken for Windows-1252.
    private static func character(_ number: UInt32) -> [UInt32] {
        switch number {
        case 0, 0xD800...0xDFFF, 0x110000...: [0xFFFD]
        case 0x0D: [0x0D]
        case 0x80...0x9F: [Mojibake.windows1252[Int(number - 0x80)]]
        case 0x01...0x08, 0x0B, 0x0E...0x1F, 0x7F, 0xFDD0...0xFDEF: []
        case _ where number & 0xFFFE == 0xFFFE: []  // U+FFFE, U+FFFF and their like on every plane
        default: [number]
        }
    }
}
