// SigLIP's tokenizer: canonical text through sentencepiece, and an end token.

import Checkpoints

/// `SiglipTokenizer` of transformers: special tokens are cut out, the rest is lower-cased and loses its ASCII
/// punctuation, and sentencepiece cuts it behind a sacrificial unknown token, which then is taken off again.
struct SigLIPTokenizer: Sendable {
    private let encoder: SentencePieceEncoder
    private let addedTokens: AddedTokens
    private let endID: Int32
    private let unknownText: [UInt8]
    /// How many pieces the unknown token itself is cut into.
    private let unknownLength: Int
    private let lowercases: Bool
    let vocabularySize: Int

    private static let space = Array("\u{2581}".utf8)

    /// - Parameters:
    ///   - added: tokens that are looked for before anything else. One that is a piece has the piece's id; any other
    ///     one keeps the id that it brings along, or gets the next free one.
    ///   - end: the end token's text.
    ///   - unknown: the unknown token's text.
    init(
        _ file: SentencePieceFile, added: [AddedToken], end: String, unknown: String, lowercases: Bool
    ) throws(CheckpointError) {
        let encoder = try SentencePieceEncoder(file)
        var next = Int32(file.pieces.count)
        var tokens: [AddedToken] = []
        for var token in added {
            let id = encoder.id(of: token.text)
            if file.pieces[Int(id)].text == token.text {
                token.id = id
            } else if token.id == 0 {
                token.id = next
            }
            next = max(next, token.id + 1)
            tokens.append(token)
        }
        self.encoder = encoder
        addedTokens = AddedTokens(tokens)
        endID = addedTokens.id(of: Array(end.utf8)) ?? encoder.id(of: end.utf8)
        unknownText = Array(unknown.utf8)
        unknownLength = encoder.encode(unknownText).count
        self.lowercases = lowercases
        vocabularySize = file.pieces.count
    }

    /// The id of a token by its text.
    func id(of token: String) -> Int32? { addedTokens.id(of: Array(token.utf8)) ?? encoder.id(of: token.utf8) }

    func tokenize(
        _ text: [UInt8], original: String, contextLength: Int, truncate: Bool
    ) throws(TokenizerError) -> [Int32] {
        var ids = encode(UTF8Text.scalars(text.span))
        try fit(&ids, of: original, specials: 1, contextLength: contextLength, truncate: truncate)
        if ids.last != endID { ids.append(endID) }
        return ids
    }

    private func encode(_ text: [UInt32]) -> [Int32] {
        // Every ▁ of the user becomes a space, and one stands in front.
        let spaced = text.map { $0 == 0x2581 ? 0x20 : $0 }
        let whole = UTF8Text.encoded([0x2581] + spaced)
        var ids: [Int32] = []
        var isFirst = true  // whether `ids` holds at most one piece, a lone ▁
        for part in addedTokens.split(whole) {
            if let id = part.id {
                if isFirst, ids.count == 1, addedTokens.isSpecial(id) { ids = [] }
                ids.append(id)
                isFirst = false
                continue
            }
            let canonical = TextCleaner.withoutPunctuation(
                UTF8Text.scalars(whole[part.range].span), lowercases: lowercases)
            let pieces = encoder.encode(unknownText + UTF8Text.encoded(canonical))
            let kept = pieces.count >= unknownLength ? pieces[unknownLength...] : pieces[...]
            for piece in kept {
                ids.append(addedTokens.id(of: piece.text) ?? encoder.id(of: piece.text))
                isFirst = isFirst && ids.count == 1 && piece.text == Self.space
            }
        }
        return ids
    }
}
