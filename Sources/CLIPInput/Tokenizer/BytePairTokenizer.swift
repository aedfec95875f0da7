// CLIP's tokenizer: from a sentence to the ids that the text tower reads, the same as the reference's, to the id.

/// Byte-level byte-pair tokenizer of CLIP: clean, lower-case, split, merge.
///
/// `encode` gives the ids of `SimpleTokenizer.encode` of openai-clip and of open_clip, ftfy's repairs included.
package struct BytePairTokenizer: TextTokenizer {
    /// How a user's text spells the start and the end of a text. Only these differ between the two references.
    package enum SpecialTokens: Sendable {
        /// `<|startoftext|>` and `<|endoftext|>`
        case openAI
        /// `<start_of_text>` and `<end_of_text>`
        case openCLIP

        fileprivate var spellings: (start: StaticString, end: StaticString) {
            switch self {
            case .openAI: ("<|startoftext|>", "<|endoftext|>")
            case .openCLIP: ("<start_of_text>", "<end_of_text>")
            }
        }
    }

    package let startOfText: Int32
    package let endOfText: Int32
    package let vocabularySize: Int
    private let merges: MergeTable
    private let startSpelling: [UInt8]
    private let endSpelling: [UInt8]

    /// CLIP's own vocabulary.
    package init(specialTokens: SpecialTokens = .openAI) {
        self.init(
            merges: .clip(), specialTokens: specialTokens, startOfText: 49406, endOfText: 49407, vocabularySize: 49408)
    }

    /// Another vocabulary, such as that of a `vocab.json` and its `merges.txt`.
    package init(
        merges: MergeTable, specialTokens: SpecialTokens, startOfText: Int32, endOfText: Int32, vocabularySize: Int
    ) {
        self.merges = merges
        self.startOfText = startOfText
        self.endOfText = endOfText
        self.vocabularySize = vocabularySize
        let spellings = specialTokens.spellings
        startSpelling = Array(String(describing: spellings.start).utf8)
        endSpelling = Array(String(describing: spellings.end).utf8)
    }

    /// Start, text, end.
    ///
    /// - Parameter truncate: cuts a text that is too long and puts the end token last. openai-clip does not truncate
    ///   unless asked; open_clip always does.
    package func tokenize(
        _ text: String, contextLength: Int = 77, truncate: Bool = false
    ) throws(TokenizerError) -> [Int32] {
        var ids = [startOfText]
        append(text, to: &ids)
        ids.append(endOfText)
        if ids.count > contextLength {
            guard truncate, contextLength > 0 else {
                throw .textTooLong(text: text, tokenCount: ids.count, contextLength: contextLength)
            }
            ids.removeLast(ids.count - contextLength)
            ids[contextLength - 1] = endOfText
        }
        return ids
    }

    /// The ids of `text` alone, without start and end. A special token spelt out in the text becomes its id.
    package func encode(_ text: String) -> [Int32] {
        var ids = [Int32]()
        append(text, to: &ids)
        return ids
    }

    private func append(_ text: String, to ids: inout [Int32]) {
        var bytes = Array(text.utf8)
        ids.reserveCapacity(ids.count + bytes.count / 3 + 2)
        if !Self.lowercaseIfPlain(&bytes) { bytes = TextCleaner.cleaned(text) }
        split(bytes.span, into: &ids)
    }

    /// Lower-cases text that needs no cleaning: printable ASCII, tab and line feed, without an ampersand, which may
    /// begin an HTML entity. For any other text the result is false and `bytes` are spoilt.
    private static func lowercaseIfPlain(_ bytes: inout [UInt8]) -> Bool {
        var plain = true
        for index in bytes.indices {
            let byte = bytes[index]
            let isPrintable = byte &- 0x20 < 0x5F && byte != UInt8(ascii: "&")
            plain = plain && (isPrintable || byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\t"))
            bytes[index] = byte &- UInt8(ascii: "A") < 26 ? byte | 0x20 : byte
        }
        return plain
    }

    /// Splits cleaned text (UTF-8) into words and appends their ids. This is the reference's pattern
    /// `'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`, special tokens first, without regard to case.
    private func split(_ text: Span<UInt8>, into ids: inout [Int32]) {
        var scratch = MergeTable.Scratch(capacity: text.count)
        var start = 0
        while start < text.count {
            var end = start
            let (kind, length) = Self.character(text, at: start)
            switch kind {
            case .separator:
                start += length
                continue
            case .number:
                end = start + length
            case .letter:
                end = Self.endOfRun(of: .letter, in: text, from: start + length)
            case .other:
                if text[start] == UInt8(ascii: "<") {
                    let candidates = [(startSpelling, startOfText), (endSpelling, endOfText)]
                    for (spelling, id) in candidates {
                        let (length, isExact) = Self.match(spelling.span, in: text, at: start)
                        guard length > 0 else { continue }
                        if isExact { ids.append(id) }
                        end = start + length
                        // Spelt with a long s the pattern matches, but the vocabulary does not know the word.
                        if !isExact { merges.append(text.extracting(start..<end), to: &ids, scratch: &scratch) }
                    }
                    if end > start {
                        start = end
                        continue
                    }
                } else if text[start] == UInt8(ascii: "'") {
                    end = start + Self.contractionLength(text, at: start)
                }
                if end == start { end = Self.endOfRun(of: .other, in: text, from: start + length) }
            }
            merges.append(text.extracting(start..<end), to: &ids, scratch: &scratch)
            start = end
        }
    }

    /// The class of the character whose UTF-8 starts at `position`, and its length in bytes.
    private static func character(_ text: Span<UInt8>, at position: Int) -> (CharacterClass, Int) {
        let byte = text[position]
        if byte < 0x80 { return (CharacterClass(ascii: byte), 1) }
        let (scalar, length) = UTF8Text.scalar(text, at: position)
        return (CharacterClass(scalar), length)
    }

    private static func endOfRun(of kind: CharacterClass, in text: Span<UInt8>, from position: Int) -> Int {
        var position = position
        while position < text.count {
            let (next, length) = character(text, at: position)
            if next != kind { break }
            position += length
        }
        return position
    }

    /// The contractions that the pattern keeps as words of their own; a long s (ſ) counts as an s.
    private static let contractions: [[UInt8]] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"].map { Array($0.utf8) }

    private static func contractionLength(_ text: Span<UInt8>, at position: Int) -> Int {
        for contraction in contractions {
            let (length, _) = match(contraction.span, in: text, at: position)
            if length > 0 { return length }
        }
        return 0
    }

    /// How many bytes of `text` at `position` match `pattern` (lower-case ASCII), and whether they are the same bytes:
    /// without regard to case, s also matches U+017F. The length is 0 where nothing matches.
    private static func match(_ pattern: Span<UInt8>, in text: Span<UInt8>, at position: Int) -> (Int, isExact: Bool) {
        var end = position
        var isExact = true
        for index in pattern.indices {
            if end < text.count, text[end] == pattern[index] {
                end += 1
            } else if pattern[index] == UInt8(ascii: "s"), end + 1 < text.count, text[end] == 0xC5,
                text[end + 1] == 0xBF
            {
                end += 2
                isExact = false
            } else {
                return (0, false)
            }
        }
        return (end - position, isExact)
    }
}
