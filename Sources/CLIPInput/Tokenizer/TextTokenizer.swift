// What every tokenizer is to the rest of the engine.

/// From a text to the ids that a text tower reads.
package protocol TextTokenizer: Sendable {
    /// The size of the vocabulary itself: tokens that were added on top of it may have greater ids.
    var vocabularySize: Int { get }

    /// The ids of a text with the special tokens that the model expects around it, not padded.
    ///
    /// - Parameters:
    ///   - contextLength: the most ids.
    ///   - truncate: cuts a text that is too long. Without it that is an error.
    func tokenize(_ text: String, contextLength: Int, truncate: Bool) throws(TokenizerError) -> [Int32]
}

/// Why a text has no tokens.
package enum TokenizerError: Error, Equatable, CustomStringConvertible {
    /// The text, its start and its end token do not fit into the context. `tokenCount` includes those two.
    case textTooLong(text: String, tokenCount: Int, contextLength: Int)

    package var description: String {
        switch self {
        case .textTooLong(let text, let tokenCount, let contextLength):
            let shown = text.unicodeScalars.count > 60 ? String(text.unicodeScalars.prefix(57)) + "..." : text
            return """
                The text "\(shown)" is too long: it has \(tokenCount) tokens with its start and end, and the model \
                reads \(contextLength); shorten it or ask for truncation.
                """
        }
    }
}

/// Fits `ids` and the special tokens around them into a context.
///
/// - Parameter specials: how many ids will be added.
func fit(
    _ ids: inout [Int32], of text: String, specials: Int, contextLength: Int, truncate: Bool
) throws(TokenizerError) {
    let count = ids.count + specials
    guard count > contextLength else { return }
    guard truncate, contextLength >= specials else {
        throw .textTooLong(text: text, tokenCount: count, contextLength: contextLength)
    }
    ids.removeLast(count - contextLength)
}
