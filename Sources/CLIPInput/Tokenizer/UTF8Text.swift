// Between Unicode scalars and UTF-8, for text that is not a Swift string.

enum UTF8Text {
    /// The scalar at `position` of valid UTF-8, and its length in bytes.
    static func scalar(_ text: Span<UInt8>, at position: Int) -> (scalar: UInt32, length: Int) {
        let first = UInt32(text[position])
        func continuation(_ offset: Int) -> UInt32 { UInt32(text[position + offset] & 0x3F) }
        switch first {
        case ..<0x80: return (first, 1)
        case ..<0xE0: return ((first & 0x1F) << 6 | continuation(1), 2)
        case ..<0xF0: return ((first & 0x0F) << 12 | continuation(1) << 6 | continuation(2), 3)
        default:
            return ((first & 0x07) << 18 | continuation(1) << 12 | continuation(2) << 6 | continuation(3), 4)
        }
    }

    /// The length in bytes of the character that begins with `byte`; 1 for a byte that begins none.
    @inline(__always)
    static func length(of byte: UInt8) -> Int {
        switch byte {
        case ..<0xC0: 1
        case ..<0xE0: 2
        case ..<0xF0: 3
        default: 4
        }
    }

    /// The scalars of valid UTF-8.
    static func scalars(_ text: Span<UInt8>) -> [UInt32] {
        var scalars = [UInt32]()
        scalars.reserveCapacity(text.count)
        var position = 0
        while position < text.count {
            let (value, length) = scalar(text, at: position)
            scalars.append(value)
            position += length
        }
        return scalars
    }

    static func encoded(_ scalars: [UInt32]) -> [UInt8] {
        var bytes = [UInt8]()
        bytes.reserveCapacity(scalars.count * 2)
        func append(_ value: UInt32) { bytes.append(UInt8(truncatingIfNeeded: value)) }
        func appendContinuation(_ value: UInt32) { append(0x80 | value & 0x3F) }
        for scalar in scalars {
            switch scalar {
            case ..<0x80:
                append(scalar)
            case ..<0x800:
                append(0xC0 | scalar >> 6)
                appendContinuation(scalar)
            case ..<0x1_0000:
                append(0xE0 | scalar >> 12)
                appendContinuation(scalar >> 6)
                appendContinuation(scalar)
            default:
                append(0xF0 | scalar >> 18)
                appendContinuation(scalar >> 12)
                appendContinuation(scalar >> 6)
                appendContinuation(scalar)
            }
        }
        return bytes
    }

    /// Decodes UTF-8, or returns nil where it is malformed: Python's `bytes.decode("utf-8")`.
    ///
    /// - Parameter variants: also takes what ftfy's codec `utf-8-variants` takes: `C0 80` for U+0000 and surrogate
    ///   pairs of three bytes each (CESU-8). That codec finds them by patterns that end in `$`, which in Python also
    ///   stands before a last line feed; hence the two odd cases with a line feed.
    static func decoded(_ bytes: [UInt8], variants: Bool) -> [UInt32]? {
        var scalars = [UInt32]()
        scalars.reserveCapacity(bytes.count)
        var position = 0
        func byte(_ offset: Int) -> UInt32 {
            position + offset < bytes.count ? UInt32(bytes[position + offset]) : 0
        }
        func isContinuation(_ offset: Int) -> Bool { byte(offset) & 0xC0 == 0x80 }
        func isLastLineFeed(_ offset: Int) -> Bool { byte(offset) == 0x0A && position + offset == bytes.count - 1 }

        while position < bytes.count {
            let first = byte(0)
            if first < 0x80 {
                scalars.append(first)
                position += 1
            } else if variants, first == 0xC0, byte(1) == 0x80 || isLastLineFeed(1) {
                scalars.append(0)
                position += 2
            } else if first >= 0xC2, first < 0xE0, isContinuation(1) {
                scalars.append((first & 0x1F) << 6 | byte(1) & 0x3F)
                position += 2
            } else if first >= 0xE0, first < 0xF0, isContinuation(1), isContinuation(2) {
                let scalar = (first & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | byte(2) & 0x3F
                if scalar >= 0xD800, scalar < 0xE000 {
                    let isPair =
                        scalar < 0xDC00 && byte(3) == 0xED && byte(4) >= 0xB0 && byte(4) <= 0xBF
                        && (isContinuation(5) || isLastLineFeed(5))
                    guard variants, isPair else { return nil }
                    let high = (byte(1) & 0x0F) << 16 | (byte(2) & 0x3F) << 10
                    let low = (byte(4) & 0x0F) << 6 | byte(5) & 0x3F
                    scalars.append(0x10000 + high + low)
                    position += 6
                } else {
                    guard scalar >= 0x800 else { return nil }
                    scalars.append(scalar)
                    position += 3
                }
            } else if first >= 0xF0, first < 0xF5, isContinuation(1), isContinuation(2), isContinuation(3) {
                let upper = (first & 0x07) << 18 | (byte(1) & 0x3F) << 12
                let scalar = upper | (byte(2) & 0x3F) << 6 | byte(3) & 0x3F
                guard scalar >= 0x10000, scalar < 0x110000 else { return nil }
                scalars.append(scalar)
                position += 4
            } else {
                return nil
            }
        }
        return scalars
    }
}
