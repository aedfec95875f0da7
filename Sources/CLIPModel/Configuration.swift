// What a model is, whatever file said so: sizes and choices that the towers are built from.
import CLIPCompute

/// A stack of transformer blocks.
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
    /// Whether norms stand behind the residual sums instead of before the linears (XLM-RoBERTa).
    package var normsAfterSums = false
    package var normKind = NormParameters.Kind.layer
    /// Whether the MLP's hidden columns are multiplied by a second linear's (T5 1.1).
    package var isGated = false
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
        /// A learned query attends to all rows: SigLIP's MAP head, CoCa's attentional pooler.
        case attention = "attention of a learned query"
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
    /// Where the pooling is an attention.
    package var attentionPool: AttentionPoolConfiguration?
    /// Whether the last norm follows the pooling instead of standing before it; the same for a single row.
    package var normsAfterPooling = true
    /// Patches a side that the positions in the file are for, where they are resized to those of `imageSize`.
    package var storedGrid: Int?
    /// Columns of the result.
    package var outputs: Int

    /// Patches a side.
    package var grid: Int { imageSize / patchSize }
    package var rowsPerPicture: Int { grid * grid + (hasClassToken ? 1 : 0) }
    /// Rows of the positions in the file.
    var storedRows: Int { (storedGrid ?? grid) * (storedGrid ?? grid) + (hasClassToken ? 1 : 0) }
}

/// Attention of one learned query, and what stands behind it before the projection.
package struct AttentionPoolConfiguration: Hashable, Sendable {
    package var attention: AttentionShape
    /// Learned queries in the file; the first is the one that counts.
    package var queries = 1
    /// Columns of the hidden layer of the MLP behind it (SigLIP), none for no MLP.
    package var mlpWidth: Int?
}

/// A text transformer.
package struct TextConfiguration: Hashable, Sendable {
    /// What stands for the sentence: the row of a token, or a mean.
    package enum Pooling: Hashable, Sendable {
        /// The first of the greatest ids: `text.argmax(dim=-1)`. Right for vocabularies that end with the end token.
        case greatestID
        /// The first token with this id; the first of all where there is none, as `(ids == id).argmax(dim=-1)` says.
        case first(Int32)
        /// The first position.
        case start
        /// The last position of the whole context, whatever stands there.
        case end
        /// A learned row behind the whole context (CoCa).
        case classToken
        /// The mean of all tokens.
        case mean

        /// The row of a sentence; none of an empty one, and none where no token's row is meant.
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
            case .classToken, .mean: return nil
            }
        }
    }

    /// How a token knows its place.
    package enum Positions: Hashable, Sendable {
        /// A learned vector for each place, the first token's at this row of the table.
        case learned(first: Int)
        /// A learned summand of the scores for each distance (T5, Raffel et al. 2019), in so many buckets; distances
        /// from the greatest on are alike.
        case relative(buckets: Int, greatest: Int)
    }
    /// What stands between the pooled row and the result.
    package enum Projection: Hashable, Sendable {
        case none
        case linear
        /// Two linears with a GELU between them (open_clip's `hf_proj_type` "mlp").
        case mlp(hidden: Int)
    }

    package var transformer: TransformerConfiguration
    package var vocabularySize: Int
    /// The most tokens of a sentence.
    package var contextLength: Int
    package var pooling: Pooling
    package var positions = Positions.learned(first: 0)
    /// Whether a token sees only those before it.
    package var isCausal = true
    /// Columns of the result.
    package var outputs: Int
    package var projection = Projection.linear
    /// Rows of the positions in the file, where they are resized to the context length.
    package var storedPositions: Int?

    /// What a sentence is filled up with.
    package var paddingID: Int32 = 0
    /// Whether no token sees padding, so that a sentence need not be filled up; `classToken` has rules of its own.
    package var hidesPadding = false
    /// Whether what stands behind the sentence counts, so that it must be filled up to the context length.
    package var readsPadding: Bool { !hidesPadding && (!isCausal || pooling == .end) }
    /// Whether activations may be greater than a half can be: T5's residual stream, whose norms take no mean off, grows
    /// beyond 65504 in trained models.
    package var outgrowsHalves: Bool { if case .relative = positions { true } else { false } }
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
    /// What `longest` fills the rest with, in every channel.
    package var fill: UInt8 = 0
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
    /// Whether a learned number is added to the scaled cosines (SigLIP), whose sigmoids then are probabilities.
    package var hasLogitBias = false
    package var preprocessing: PreprocessingFacts
    /// Everything above, and where each was read.
    package var facts: [Fact]

    /// Columns of an embedding.
    package var embeddingWidth: Int { vision.outputs }
}
