// A tokenizer of the `tokenizers` library: added tokens, normalizer, pre-tokenizer, model, post-processor.

/// What a `tokenizer.json` describes, or one of transformers' classes builds.
struct LibraryTokenizer: Sendable {
    var normalizer: TextNormalizer?
    var preTokenizer: PreTokenizer?
    var model: WordModel
    /// Ids that stand before and behind every text.
    var prefix: [Int32] = []
    var suffix: [Int32] = []
    /// Tokens that are looked for in the text as it is, and those that are looked for once it is normalised.
    private var plainTokens = AddedTokens([])
    private var normalizedTokens = AddedTokens([])
    private var added: [Int32: AddedToken] = [:]
    private var addedIDs: [[UInt8]: Int32] = [:]

    init(model: WordModel, normalizer: TextNormalizer? = nil, preTokenizer: PreTokenizer? = nil) {
        self.model = model
        self.normalizer = normalizer
        self.preTokenizer = preTokenizer
    }

    /// The id of a token by its text.
    func id(of token: String) -> Int32? {
        let bytes = Array(token.utf8)
        return addedIDs[bytes] ?? model.id(of: bytes)
    }

    /// Tokens of the model, added ones left out.
    var vocabularySize: Int { model.tokenCount }

    /// `AddedVocabulary::add_tokens`: a token that the vocabulary knows has its id there, another one the next id.
    mutating func add(_ tokens: [AddedToken]) {
        let count = Int32(model.tokenCount)
        var next = max(count, 1 + (added.keys.max() ?? -1))
        for var token in tokens where !token.text.isEmpty {
            if let id = addedIDs[token.text] ?? model.id(of: token.text) {
                token.id = id
            } else {
                token.id = next
                next += 1
            }
            addedIDs[token.text] = token.id
            added[token.id] = token
        }
        let addedTokens = added.values.sorted { $0.id < $1.id }
        plainTokens = AddedTokens(addedTokens.filter { !$0.isNormalized })
        normalizedTokens = AddedTokens(
            addedTokens.filter(\.isNormalized).map { token in
                var token = token
                normalizer?.apply(&token.text)
                return token
            })
    }

    /// The ids of a text without those around it.
    func encode(_ text: [UInt8]) -> [Int32] {
        var ids: [Int32] = []
        ids.reserveCapacity(text.count / 3 + 2)
        for part in plainTokens.split(text) {
            if let id = part.id {
                ids.append(id)
                continue
            }
            let isFirst = part.range.lowerBound == 0
            var section = part.range.count == text.count ? text : Array(text[part.range])
            normalizer?.apply(&section)
            for part in normalizedTokens.split(section) {
                if let id = part.id {
                    ids.append(id)
                } else {
                    append(section, part.range, isFirst: isFirst && part.range.lowerBound == 0, to: &ids)
                }
            }
        }
        return ids
    }

    private func append(_ section: [UInt8], _ range: Range<Int>, isFirst: Bool, to ids: inout [Int32]) {
        guard let preTokenizer else { return model.append(section.span.extracting(range), to: &ids) }
        var words = Words(text: section, ranges: [range], startsText: isFirst)
        preTokenizer.apply(&words)
        let text = words.text.span
        for range in words.ranges where !range.isEmpty { model.append(text.extracting(range), to: &ids) }
    }

    /// The ids of a text and those around it, in a context of so many.
    func tokenize(
        _ text: [UInt8], original: String, contextLength: Int, truncate: Bool
    ) throws(TokenizerError) -> [Int32] {
        var ids = encode(text)
        try fit(
            &ids, of: original, specials: prefix.count + suffix.count, contextLength: contextLength, truncate: truncate)
        return prefix + ids + suffix
    }
}
