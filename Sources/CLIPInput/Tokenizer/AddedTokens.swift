// Tokens that are looked for in the text itself, before anything else is done to it.

/// A token with an id of its own, and how it is looked for.
struct AddedToken: Hashable, Sendable {
    /// UTF-8, not empty.
    var text: [UInt8]
    var id: Int32
    /// Only where no word's character stands beside it.
    var isSingleWord = false
    /// Takes the white space before it along.
    var stripsLeft = false
    /// Takes the white space behind it along.
    var stripsRight = false
    /// Looked for in the normalised text, in its normalised form.
    var isNormalized = false
    var isSpecial = false
}

/// Tokens that a text is split at: at the leftmost place the longest of them, and on from its end.
struct AddedTokens: Sendable {
    /// A stretch of a text; the id is that of an added token.
    typealias Part = (range: Range<Int>, id: Int32?)

    private let trie: PieceTrie
    private let tokens: [Int32: AddedToken]

    /// Of tokens with equal text, or equal id, the last counts.
    init(_ tokens: [AddedToken]) {
        trie = PieceTrie(tokens.map { ($0.text, $0.id) })
        self.tokens = Dictionary(tokens.map { ($0.id, $0) }, uniquingKeysWith: { $1 })
    }

    func id(of text: [UInt8]) -> Int32? { trie.id(of: text) }
    func isSpecial(_ id: Int32) -> Bool { tokens[id]?.isSpecial ?? false }

    /// The parts of a text in their order: added tokens, and what stands between them. None of them is empty.
    func split(_ text: [UInt8], _ whole: Range<Int>? = nil) -> [Part] {
        let whole = whole ?? text.indices
        guard trie.count > 0, !whole.isEmpty else { return whole.isEmpty ? [] : [(whole, nil)] }
        var parts: [Part] = []
        var open = whole.lowerBound
        var position = whole.lowerBound
        let span = text.span.extracting(0..<whole.upperBound)
        while position < whole.upperBound {
            guard trie.begins(with: text[position]), let match = trie.longestMatch(in: span, at: position),
                let token = tokens[match.id]
            else {
                position += 1
                continue
            }
            var range = position..<match.end
            position = match.end
            if token.isSingleWord,
                isWord(span, before: range.lowerBound, from: whole.lowerBound) || isWord(span, at: range.upperBound)
            {
                continue
            }
            if token.stripsLeft {
                while range.lowerBound > open, let start = space(span, before: range.lowerBound, from: open) {
                    range = start..<range.upperBound
                }
            }
            if token.stripsRight {
                while let end = space(span, at: range.upperBound) { range = range.lowerBound..<end }
            }
            if open < range.lowerBound { parts.append((open..<range.lowerBound, nil)) }
            parts.append((range, match.id))
            open = range.upperBound
        }
        if open < whole.upperBound { parts.append((open..<whole.upperBound, nil)) }
        return parts
    }

    private func traits(_ text: Span<UInt8>, at position: Int) -> (LibraryTraits, end: Int)? {
        guard position < text.count else { return nil }
        let (scalar, length) = UTF8Text.scalar(text, at: position)
        return (LibraryTraits(scalar), position + length)
    }

    private func traits(_ text: Span<UInt8>, before position: Int, from start: Int) -> (LibraryTraits, start: Int)? {
        var first = position - 1
        while first >= start, text[first] & 0xC0 == 0x80 { first -= 1 }
        return first >= start ? (LibraryTraits(UTF8Text.scalar(text, at: first).scalar), first) : nil
    }

    private func isWord(_ text: Span<UInt8>, at position: Int) -> Bool {
        traits(text, at: position)?.0.contains(.isWordCharacter) ?? false
    }
    private func isWord(_ text: Span<UInt8>, before position: Int, from start: Int) -> Bool {
        traits(text, before: position, from: start)?.0.contains(.isWordCharacter) ?? false
    }
    /// Where the white space at `position` ends, if there is one.
    private func space(_ text: Span<UInt8>, at position: Int) -> Int? {
        traits(text, at: position).flatMap { $0.0.contains(.isSpace) ? $0.end : nil }
    }
    private func space(_ text: Span<UInt8>, before position: Int, from start: Int) -> Int? {
        traits(text, before: position, from: start).flatMap { $0.0.contains(.isSpace) ? $0.start : nil }
    }
}
