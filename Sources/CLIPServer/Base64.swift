// Base64 (RFC 4648): pictures in JSON, and vectors for clients that ask for them so.

package enum Base64 {
    private static let alphabet = [UInt8]("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    /// The six bits of each character; 64 for white space, 65 for `=`, 255 for none. The URL-safe alphabet is read as well.
    private static let bits: [UInt8] = {
        var bits = [UInt8](repeating: 255, count: 256)
        for (value, character) in alphabet.enumerated() { bits[Int(character)] = UInt8(value) }
        bits[Int(UInt8(ascii: "-"))] = 62
        bits[Int(UInt8(ascii: "_"))] = 63
        for character in " \t\r\n".utf8 { bits[Int(character)] = 64 }
        bits[Int(UInt8(ascii: "="))] = 65
        return bits
    }()

    /// The bytes of a text, with padding or without; none where it is not Base64.
    package static func decode(_ text: Substring) -> [UInt8]? {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.utf8.count / 4 * 3 + 3)
        var group: UInt32 = 0
        var characters = 0
        var padding = 0
        for character in text.utf8 {
            let value = bits[Int(character)]
            switch value {
            case 64: continue
            case 65:
                padding += 1
                continue
            case 255: return nil
            default: break
            }
            if padding > 0 { return nil }
            group = group << 6 | UInt32(value)
            characters += 1
            if characters % 4 == 0 {
                bytes.append(UInt8(truncatingIfNeeded: group >> 16))
                bytes.append(UInt8(truncatingIfNeeded: group >> 8))
                bytes.append(UInt8(truncatingIfNeeded: group))
            }
        }
        let rest = characters % 4
        guard rest != 1, padding == 0 || rest > 0 && padding == 4 - rest else { return nil }
        if rest >= 2 { bytes.append(UInt8(truncatingIfNeeded: group >> (rest == 2 ? 4 : 10))) }
        if rest == 3 { bytes.append(UInt8(truncatingIfNeeded: group >> 2)) }
        return bytes
    }

    /// With padding.
    package static func encode(_ bytes: UnsafeRawBufferPointer) -> String {
        String(unsafeUninitializedCapacity: (bytes.count + 2) / 3 * 4) { text in
            var end = 0
            for start in stride(from: 0, to: bytes.count, by: 3) {
                let count = min(3, bytes.count - start)
                var group = UInt32(bytes[start]) << 16
                if count > 1 { group |= UInt32(bytes[start + 1]) << 8 }
                if count > 2 { group |= UInt32(bytes[start + 2]) }
                for position in 0..<4 {
                    text[end] =
                        position <= count ? alphabet[Int(group >> (18 - 6 * UInt32(position)) & 63)] : UInt8(ascii: "=")
                    end += 1
                }
            }
            return end
        }
    }
}
