// What a model is, whatever file said so: sizes and choices that the towers are built from.
import CLIPCompute

/// A stack of pre-norm transformer blocks.
package struct TransformerConfiguration: Hashable, Sendable {
    /// Columns of the residual stream.
    package var width: Int
    /// At least one.
    package var layers: Int
    package var attention: AttentionShape
    package var mlpWidth: Int
    package var activation: Activation
    package var normEpsilon: Float
}

/// A vision transformer (Dosovitskiy et al. 2020) as CLIP has it.
package struct VisionConfiguration: Hashable, Sendable {
    package enum Pooling: String, Sendable {
        /// The first row stands for the picture.
        case classToken = "class token"
    }

    package var transformer: TransformerConfiguration
    /// Pixels a side.
    package var imageSize: Int
    /// Pixels a side.
    package var patchSize: Int
    package var hasClassToken: Bool
    /// A norm between the embeddings and the first block.
    package var hasPreNorm: Bool
    package var pooling: Pooling
    /// Columns of the result.
    package var outputs: Int

    package var rowsPerPicture: Int {
        (imageSize / patchSize) * (imageSize / patchSize) + (hasClassToken ? 1 : 0)
    }
}

/// CLIP's text transformer.
package struct TextConfiguration: Hashable, Sendable {
    /// Which token's row stands for the sentence.
    package enum Pooling: Hashable, Sendable {
        /// The first of the greatest ids: `text.argmax(dim=-1)`. Right for vocabularies that end with the end token.
        case greatestID
        /// The first token with this id; the first of all where there is none, as `(ids == id).argmax(dim=-1)` says.
        case first(Int32)

        /// The row of a sentence; none of an empty one.
        package func row(of ids: some Collection<Int32>) -> Int? {
            switch self {
            case .greatestID:
                var best: (row: Int, id: Int32)?
                for (row, id) in ids.enumerated() where best.map({ id > $0.id }) ?? true { best = (row, id) }
                return best?.row
            case .first(let wanted):
                return ids.isEmpty ? nil : ids.enumerated().first { $0.element == wanted }?.offset ?? 0
            }
        }
    }

    package var transformer: TransformerConfiguration
    package var vocabularySize: Int
    /// The most tokens of a sentence.
    package var contextLength: Int
    package var pooling: Pooling
    /// Columns of the result.
    package var outputs: Int
}

/// How pictures become pixels, as the model's files say. The names of filters and modes are open_clip's.
package struct PreprocessingFacts: Hashable, Sendable {
    package enum Resize: Hashable, Sendable {
        /// The shorter side becomes this long, the longer in proportion.
        case shortest(Int)
        /// Both sides become this long, whatever the proportion.
        case squash(Int)
    }
    package enum Interpolation: String, Sendable { case nearest, bilinear, bicubic, lanczos, box, hamming }

    package var resize: Resize
    package var interpolation: Interpolation
    /// Pixels a side of the centre crop after resizing: what the model takes.
    package var cropSize: Int
    package var normalization: PixelNormalization
}

/// One thing known about a model, and where it was read: what `inspect` prints.
package struct Fact: Hashable, Sendable {
    package var name: String
    package var value: String
    package var source: String

    package init(name: String, value: String, source: String) {
        self.name = name
        self.value = value
        self.source = source
    }
}

/// A CLIP model: two towers into one space.
package struct CLIPConfiguration: Hashable, Sendable {
    package var vision: VisionConfiguration
    package var text: TextConfiguration
    package var preprocessing: PreprocessingFacts
    /// Everything above, and where each was read.
    package var facts: [Fact]

    /// Columns of an embedding.
    package var embeddingWidth: Int { vision.outputs }
}
