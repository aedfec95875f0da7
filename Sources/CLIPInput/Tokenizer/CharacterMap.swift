// sentencepiece's compiled table of replacements: what a normaliser puts in place of which characters.

import Checkpoints

/// A `precompiled_charsmap`: a double-array trie (Darts) from strings to places in a list of replacements.
///
/// The table is a count of bytes (32 bits, little-endian), that many bytes of trie, and the replacements, each ended by
/// a zero. Every step is checked against the trie's size: the table comes out of a file.
struct CharacterMap: Sendable {
    private let units: [UInt32]
    private let replacements: [UInt8]

    /// - Parameter name: of the file that the table is part of.
    init(_ table: some Collection<UInt8>, name: String) throws(CheckpointError) {
        let table = Array(table)
        let size = table.prefix(4).reversed().reduce(0) { $0 << 8 | Int($1) }
        guard table.count > 4, size <= table.count - 4, size % 4 == 0 else {
            throw CheckpointError(
                "\(name) holds a table of character replacements that is cut off or damaged: fetch the file again")
        }
        units = stride(from: 4, to: 4 + size, by: 4).map { start in
            (0..<4).reduce(0) { $0 | UInt32(table[start + $1]) << (8 * UInt32($1)) }
        }
        replacements = Array(table[(4 + size)...])
    }

    /// A match: how many bytes of the text, and where its replacement begins.
    typealias Match = (length: Int, replacement: Int)

    /// The longest key that `text[range]` begins with.
    func longestMatch(in text: Span<UInt8>, _ range: Range<Int>) -> Match? {
        match(in: text, range, stopsAtFirst: false)
    }

    /// The shortest such key: what the `tokenizers` library takes.
    func shortestMatch(in text: Span<UInt8>, _ range: Range<Int>) -> Match? {
        match(in: text, range, stopsAtFirst: true)
    }

    @inline(__always)
    private func match(in text: Span<UInt8>, _ range: Range<Int>, stopsAtFirst: Bool) -> Match? {
        guard let root = units.first else { return nil }
        var place = Self.offset(root)
        var result: Match?
        for position in range {
            let byte = UInt32(text[position])
            place ^= byte
            guard place < units.count, Self.label(units[Int(place)]) == byte else { break }
            let unit = units[Int(place)]
            place ^= Self.offset(unit)
            if unit & 0x100 != 0, place < units.count {
                result = (position + 1 - range.lowerBound, Int(units[Int(place)] & 0x7FFF_FFFF))
                if stopsAtFirst { break }
            }
        }
        return result
    }

    /// What a match is replaced by.
    func replacement(_ match: Match) -> ArraySlice<UInt8> {
        let start = min(match.replacement, replacements.count)
        return replacements[start...].prefix { $0 != 0 }
    }

    private static func offset(_ unit: UInt32) -> UInt32 { (unit >> 10) << ((unit & 0x200) >> 6) }
    private static func label(_ unit: UInt32) -> UInt32 { unit & 0x8000_00FF }
}
