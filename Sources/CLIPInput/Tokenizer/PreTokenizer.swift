// How a normalised text is split into words: the pre-tokenizers of the `tokenizers` library.

/// A text and the stretches of it that count.
struct Words {
    var text: [UInt8]
    /// In their order, none empty.
    var ranges: [Range<Int>]
    /// Whether the first range is where the user's text begins.
    var startsText: Bool
}

/// One step of a `pre_tokenizer`, or several in their order.
indirect enum PreTokenizer: Sendable {
    case sequence([PreTokenizer])
    case split(Delimiter, SplitBehavior)
    case metaspace(replacement: [UInt8], PrependScheme, splits: Bool)
    case byteLevel(addsPrefixSpace: Bool, split: TextPattern?)

    /// What a text is split by.
    enum Delimiter: Sendable {
        /// Inverted: what does not match is the delimiter.
        case pattern(TextPattern, inverts: Bool)
        /// Each character with this trait.
        case character(LibraryTraits)
        /// What lies between runs of word characters and runs of others that are no white space.
        case betweenWords
    }

    /// What becomes of delimiters.
    enum SplitBehavior: String, Sendable {
        case removed = "Removed"
        case isolated = "Isolated"
        case mergedWithPrevious = "MergedWithPrevious"
        case mergedWithNext = "MergedWithNext"
        case contiguous = "Contiguous"
    }

    enum PrependScheme: String, Sendable { case always, first, never }

    /// GPT-2's pattern, which ByteLevel splits by.
    static let byteLevelPattern = #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#

    /// Whether it treats the word at the text's beginning as no other.
    var asksForStart: Bool {
        switch self {
        case .sequence(let steps): steps.contains(where: \.asksForStart)
        case .metaspace(_, let scheme, _): scheme == .first
        case .split, .byteLevel: false
        }
    }

    func apply(_ words: inout Words) {
        switch self {
        case .sequence(let steps): for step in steps { step.apply(&words) }
        case .split(let delimiter, let behavior): Self.split(&words, delimiter, behavior)
        case .metaspace(let replacement, let scheme, let splits):
            Self.metaspace(&words, replacement, scheme)
            if splits { Self.split(&words, .pattern(.literal(replacement), inverts: false), .mergedWithNext) }
        case .byteLevel(let addsPrefixSpace, let pattern):
            if addsPrefixSpace {
                Self.rewrite(&words) { word, _, text in
                    if word.first != 0x20 { text.append(0x20) }
                    text += word
                }
            }
            if let pattern { Self.split(&words, .pattern(pattern, inverts: false), .isolated) }
            Self.rewrite(&words) { word, _, text in text += ByteLevel.spelled(word.span) }
        }
    }

    /// Writes every word anew.
    private static func rewrite(_ words: inout Words, _ body: (ArraySlice<UInt8>, _ isFirst: Bool, inout [UInt8]) -> Void) {
        var text: [UInt8] = []
        text.reserveCapacity(words.text.count + 16)
        for index in words.ranges.indices {
            let start = text.count
            body(words.text[words.ranges[index]], index == 0 && words.startsText, &text)
            words.ranges[index] = start..<text.count
        }
        words.text = text
    }

    private static func metaspace(_ words: inout Words, _ replacement: [UInt8], _ scheme: PrependScheme) {
        rewrite(&words) { word, isFirst, text in
            let start = text.count
            for byte in word {
                if byte == 0x20 { text += replacement } else { text.append(byte) }
            }
            let prepends = scheme == .always || scheme == .first && isFirst
            if prepends, !text[start...].starts(with: replacement) { text.insert(contentsOf: replacement, at: start) }
        }
    }

    private static func split(_ words: inout Words, _ delimiter: Delimiter, _ behavior: SplitBehavior) {
        var result: [Range<Int>] = []
        result.reserveCapacity(words.ranges.count * 2)
        let start = words.ranges.first?.lowerBound
        for range in words.ranges { split(words.text.span, range, delimiter, behavior, &result) }
        words.startsText = words.startsText && result.first?.lowerBound == start
        words.ranges = result
    }

    /// `NormalizedString::split` for one word.
    private static func split(
        _ text: Span<UInt8>, _ range: Range<Int>, _ delimiter: Delimiter, _ behavior: SplitBehavior,
        _ result: inout [Range<Int>]
    ) {
        let first = result.count
        var followsMatch = false
        /// For `mergedWithNext`: a match that waits for what stands behind it.
        var waiting: Range<Int>?
        forEachPart(of: text, range, delimiter) { part, isMatch in
            switch behavior {
            case .removed: if !isMatch { result.append(part) }
            case .isolated: result.append(part)
            case .contiguous:
                if isMatch == followsMatch, result.count > first {
                    result[result.count - 1] = result[result.count - 1].lowerBound..<part.upperBound
                } else {
                    result.append(part)
                }
            case .mergedWithPrevious:
                if isMatch, !followsMatch, result.count > first {
                    result[result.count - 1] = result[result.count - 1].lowerBound..<part.upperBound
                } else {
                    result.append(part)
                }
            case .mergedWithNext:
                // Of several matches side by side only the last one melts into what follows.
                if isMatch {
                    if let waiting { result.append(waiting) }
                    waiting = part
                } else {
                    result.append((waiting?.lowerBound ?? part.lowerBound)..<part.upperBound)
                    waiting = nil
                }
            }
            followsMatch = isMatch
        }
        if let waiting { result.append(waiting) }
    }

    @inline(__always)
    private static func forEachPart(
        of text: Span<UInt8>, _ range: Range<Int>, _ delimiter: Delimiter, _ body: (Range<Int>, Bool) -> Void
    ) {
        switch delimiter {
        case .pattern(let pattern, let inverts):
            pattern.forEachPart(of: text, range) { part, isMatch in body(part, isMatch != inverts) }
        case .character(let trait):
            var open = range.lowerBound
            var position = range.lowerBound
            while position < range.upperBound {
                let (scalar, length) = UTF8Text.scalar(text, at: position)
                if !LibraryTraits(scalar).isDisjoint(with: trait) {
                    if open < position { body(open..<position, false) }
                    body(position..<position + length, true)
                    open = position + length
                }
                position += length
            }
            if open < range.upperBound { body(open..<range.upperBound, false) }
        case .betweenWords:
            var open = range.lowerBound
            var position = range.lowerBound
            var previous: LibraryTraits?
            while position < range.upperBound {
                let (scalar, length) = UTF8Text.scalar(text, at: position)
                let traits = LibraryTraits(scalar)
                let kind: LibraryTraits = traits.intersection(
                    traits.contains(.isWordCharacter) ? .isWordCharacter : .isSpace)
                if let previous, previous != kind {
                    body(open..<position, previous == .isSpace)
                    open = position
                }
                previous = kind
                position += length
            }
            if let previous { body(open..<range.upperBound, previous == .isSpace) }
        }
    }
}
