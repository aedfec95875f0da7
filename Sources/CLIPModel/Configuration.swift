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
    /// Whether a learned factor for each column stands before each residual sum (LayerScale, Touvron et al. 2021).
    package var hasLayerScale = false
}

/// What makes pictures into embeddings.
package enum VisionConfiguration: Hashable, Sendable {
    case transformer(VisionTransformerConfiguration)
    case resNet(ResNetConfiguration)

    /// Pixels a side.
    package var imageSize: Int {
        switch self {
        case .transformer(let vision): vision.imageSize
        case .resNet(let vision): vision.imageSize
        }
    }

    /// Columns of the result.
    package var outputs: Int {
        switch self {
        case .transformer(let vision): vision.outputs
        case .resNet(let vision): vision.outputs
        }
    }

    package var visionTransformer: VisionTransformerConfiguration? {
        if case .transformer(let vision) = self { vision } else { nil }
    }

    /// Rows of activations that one picture is, and their width, where there are most numbers.
    package var rows: (perPicture: Int, width: Int) {
        switch self {
        case .transformer(let vision): (vision.rowsPerPicture, vision.transformer.width)
        case .resNet(let vision): ((vision.imageSize / 4) * (vision.imageSize / 4), vision.width * 4)
        }
    }
}

/// CLIP's ResNet (He et al. 2016) with three convolutions before the blocks, strides by averages, and attention
/// pooling: `ModifiedResNet` of OpenAI's clip/model.py.
package struct ResNetConfiguration: Hashable, Sendable {
    /// Blocks of each of the four stages.
    package var layers: [Int]
    /// Columns after the stem; stages compute with 1, 2, 4 and 8 times as many and give four times that.
    package var width: Int
    /// Heads of the attention pool.
    package var heads: Int
    /// Pixels a side.
    package var imageSize: Int
    /// Columns of the result.
    package var outputs: Int
}

/// A vision transformer (Dosovitskiy et al. 2020) as CLIP has it.
package struct VisionTransformerConfiguration: Hashable, Sendable {
    package enum Pooling: String, Sendable {
        /// The first row stands for the picture.
        case classToken = "class token"
        /// The mean of the patches' rows, the class token's left out.
        case mean = "mean of the patches"
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
    /// Whether the last norm follows the pooling instead of standing before it; the same for a single row.
    package var normsAfterPooling = true
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
        /// The first position.
        case start
        /// The last position of the whole context, whatever stands there.
        case end

        /// The row of a sentence; none of an empty one.
        package func row(of ids: some Collection<Int32>) -> Int? {
            switch self {
            case .greatestID:
                var best: (row: Int, id: Int32)?
                for (row, id) in ids.enumerated() where best.map({ id > $0.id }) ?? true { best = (row, id) }
                return best?.row
            case .first(let wanted):
                return ids.isEmpty ? nil : ids.enumerated().first { $0.element == wanted }?.offset ?? 0
            case .start: return ids.isEmpty ? nil : 0
            case .end: return ids.isEmpty ? nil : ids.count - 1
            }
        }
    }

    package var transformer: TransformerConfiguration
    package var vocabularySize: Int
    /// The most tokens of a sentence.
    package var contextLength: Int
    package var pooling: Pooling
    /// Whether a token sees only those before it.
    package var isCausal = true
    /// Columns of the result.
    package var outputs: Int
    /// Whether a linear stands between the last norm and the result.
    package var hasProjection = true

    /// What a sentence is filled up with.
    package var paddingID: Int32 = 0
    /// Whether what stands behind the sentence counts, so that it must be filled up to the context length.
    package var readsPadding: Bool { !isCausal || pooling == .end }
}

/// Which of the tokenizers a model was trained with.
package enum TokenizerKind: Hashable, Sendable {
    /// CLIP's, with `<|startoftext|>` and `<|endoftext|>`.
    case openAI
    /// CLIP's, with `<start_of_text>` and `<end_of_text>`, as open_clip has it.
    case openCLIP
    /// Read from the files beside the model.
    case folder(TokenizerFolder)
    /// Another one, by the name that the model's files give it.
    case other(String)
}

/// Tokenizer files and the manner in which a reference library calls them.
package struct TokenizerFolder: Hashable, Sendable {
    package enum Library: Hashable, Sendable {
        /// `AutoTokenizer` of transformers, as the model's own processor calls it.
        case transformers
        /// open_clip's `HFTokenizer` around transformers' `AutoTokenizer`.
        case openCLIP(cleaning: Cleaning, stripsSeparator: Bool)
    }
    /// What open_clip does to a text before its tokenizer sees it: `get_clean_fn`, after its basic and its white space
    /// cleaning.
    package enum Cleaning: String, Sendable {
        case whitespace, lower, canonicalize
        case whitespaceUnderscore = "whitespace_underscore"
    }

    /// Holds `tokenizer.json`, a sentencepiece model, `vocab.txt`, or `vocab.json` with `merges.txt`.
    package var path: String
    package var library: Library

    package init(path: String, library: Library) {
        self.path = path
        self.library = library
    }
}

/// How pictures become pixels, as the model's files say. The names of filters and modes are open_clip's.
package struct PreprocessingFacts: Hashable, Sendable {
    package enum Resize: Hashable, Sendable {
        /// The shorter side becomes this long, the longer in proportion.
        case shortest(Int)
        /// Both sides become this long, whatever the proportion.
        case squash(Int)
        /// The longer side becomes this long, and the rest is filled.
        case longest(Int)
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
    package var tokenizer: TokenizerKind = .openAI
    package var preprocessing: PreprocessingFacts
    /// Everything above, and where each was read.
    package var facts: [Fact]

    /// Columns of an embedding.
    package var embeddingWidth: Int { vision.outputs }
}
