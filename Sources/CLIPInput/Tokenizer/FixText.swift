// A port of ftfy 6.3's `fix_text` with its defaults: the repairs that openai-clip makes before anything else.
// ftfy is by Robyn Speer, Apache License 2.0; see Sources/CTextTables/Data/ORIGIN.md.

import CTextTables

/// ftfy's `fix_text`, which repairs text that went through the wrong encoding and tidies the rest.
enum FixText {
    private static let lineFeed: UInt32 = 0x0A
    private static let carriageReturn: UInt32 = 0x0D
    private static let escape: UInt32 = 0x1B

    /// Repairs each line for itself; lines of more than a million characters are cut.
    static func fixText(_ text: [UInt32]) -> [UInt32] {
        var result = [UInt32]()
        result.reserveCapacity(text.count)
        var unescapesHTML = true
        var start = 0
        while start < text.count {
            var end = text[start...].firstIndex(of: lineFeed).map { $0 + 1 } ?? text.count
            end = min(end, start + 1_000_000)
            let line = Array(text[start..<end])
            // A literal < means that the text is real HTML, here and from here on.
            if line.contains(UInt32(UInt8(ascii: "<"))) { unescapesHTML = false }
            result.append(contentsOf: fixLine(line, unescapesHTML: unescapesHTML))
            start = end
        }
        return result
    }

    /// `fix_and_explain`: every repair in turn, until none changes anything.
    private static func fixLine(_ line: [UInt32], unescapesHTML: Bool) -> [UInt32] {
        var text = line
        while true {
            let previous = text
            if unescapesHTML { text = HTMLEntities.unescapedAsFtfy(text) }
            text = Mojibake.fixEncoding(text)
            text = replacingCharacters(text)
            if text.contains(where: isBreakOrControl) {
                text = fixingLineBreaks(text)
                text = removingTerminalEscapes(text)
                text.removeAll(where: isUnwantedControl)
            }
            text = Normalization.nfc(text)
            if text == previous { return text }
        }
    }

    /// `fix_c1_controls`, `fix_latin_ligatures`, `fix_character_width` and `uncurl_quotes`, which go character by
    /// character, in one pass.
    private static func replacingCharacters(_ text: [UInt32]) -> [UInt32] {
        guard text.contains(where: { CharacterTraits($0).contains(.isSuspect) }) else { return text }
        var result = [UInt32]()
        result.reserveCapacity(text.count)
        for scalar in text {
            let replacement = textReplacement(scalar)
            if replacement.count > 0 {
                result.append(contentsOf: replacement.scalars)
            } else {
                result.append(scalar)
            }
        }
        return result
    }

    private static func isBreakOrControl(_ scalar: UInt32) -> Bool {
        scalar == carriageReturn || scalar == escape || scalar == 0x85 || scalar == 0x2028 || scalar == 0x2029
            || isUnwantedControl(scalar)
    }

    /// `fix_line_breaks`
    private static func fixingLineBreaks(_ text: [UInt32]) -> [UInt32] {
        var result = [UInt32]()
        result.reserveCapacity(text.count)
        for (index, scalar) in text.enumerated() {
            switch scalar {
            case carriageReturn:
                let isFollowedByLineFeed = index + 1 < text.count && text[index + 1] == lineFeed
                if !isFollowedByLineFeed { result.append(lineFeed) }
            case 0x2028, 0x2029, 0x85: result.append(lineFeed)
            default: result.append(scalar)
            }
        }
        return result
    }

    /// `remove_terminal_escapes`: ESC [, decimal digits of any script and semicolons, an ASCII letter.
    private static func removingTerminalEscapes(_ text: [UInt32]) -> [UInt32] {
        var result = [UInt32]()
        result.reserveCapacity(text.count)
        var position = 0
        while position < text.count {
            if text[position] == escape, position + 1 < text.count, text[position + 1] == UInt32(UInt8(ascii: "[")) {
                var end = position + 2
                while end < text.count, text[end] == UInt32(UInt8(ascii: ";")) || isDecimalDigit(text[end]) { end += 1 }
                if end < text.count, text[end] | 0x20 >= 0x61, text[end] | 0x20 <= 0x7A {
                    position = end + 1
                    continue
                }
            }
            result.append(text[position])
            position += 1
        }
        return result
    }

    private static func isDecimalDigit(_ scalar: UInt32) -> Bool {
        Unicode.Scalar(scalar)?.properties.generalCategory == .decimalNumber
    }

    /// What `remove_control_chars` removes.
    private static func isUnwantedControl(_ scalar: UInt32) -> Bool {
        switch scalar {
        case 0x00...0x08, 0x0B, 0x0E...0x1F, 0x7F, 0x206A...0x206F, 0xFEFF, 0xFFF9...0xFFFC: true
        default: false
        }
    }
}
