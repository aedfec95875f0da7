// The values that the library takes and gives: prepared pictures, tokenized texts, what a model is.

import CLIPCompute
import CLIPInput
import CLIPModel

/// A picture as a model takes it: `imageSize` by `imageSize`, three channels.
public struct PreprocessedImage: Sendable {
    /// `[side, side, 3]` before normalisation, where the picture was made from a file.
    let bytes: [UInt8]?
    private let floats: [Float]?
    private let images: ImagePreprocessor

    init(bytes: [UInt8], images: ImagePreprocessor) {
        self.bytes = bytes
        floats = nil
        self.images = images
    }

    init(floats: [Float], images: ImagePreprocessor) {
        bytes = nil
        self.floats = floats
        self.images = images
    }

    /// `[3, side, side]`, normalised: exactly what the reference feeds its model.
    public var pixels: [Float] { floats ?? images.normalized(bytes ?? []) }
}

/// Texts as token ids.
public struct TokenizedText: Sendable, Equatable {
    /// From start to end of text, not padded.
    public let ids: [[Int32]]
    /// The length that `padded` fills.
    public let contextLength: Int

    /// What `padded` fills with.
    public let paddingID: Int32

    /// `[count][contextLength]`, padded: the tensor that `clip.tokenize` returns.
    public var padded: [[Int32]] {
        ids.map { $0 + [Int32](repeating: paddingID, count: max(0, contextLength - $0.count)) }
    }
}

/// What stands between the linears of a model. Files of weights that say nothing else fit all of these.
public enum Activation: String, Sendable, CaseIterable {
    /// x · sigmoid(1.702 x): OpenAI's weights, DFN's, MetaCLIP's.
    case quickGELU = "quickgelu"
    /// x · Φ(x): most of open_clip's weights.
    case gelu
    /// GELU by way of tanh.
    case geluTanh = "gelu-tanh"

    var function: CLIPCompute.Activation {
        switch self {
        case .quickGELU: .quickGELU
        case .gelu: .gelu
        case .geluTanh: .geluTanh
        }
    }
}

/// What a model is, and where each fact was read.
public struct ModelInformation: Sendable {
    /// One fact and where it was read from.
    public struct Fact: Sendable, Hashable {
        /// "vision.layers"
        public let name: String
        /// As text.
        public let value: String
        /// "config.json vision_config.num_hidden_layers", "shape of visual_projection.weight", …
        public let source: String
    }

    /// Numbers in one embedding.
    public let embeddingDimension: Int
    /// Side of the square picture, in pixels.
    public let imageSize: Int
    /// Tokens of a text, start and end included.
    public let contextLength: Int
    /// What cosines are multiplied with before a softmax: `model.logit_scale.exp()`.
    public let logitScale: Float
    /// What is added then, in models such as SigLIP, which take a sigmoid instead: `model.logit_bias`.
    public let logitBias: Float?
    /// Everything known, for `inspect`.
    public let facts: [Fact]
    /// What texts are filled up with.
    let paddingID: Int32
    /// The id of the end of text, for made-up sentences.
    let endOfText: Int32
}

extension ModelInformation {
    init(_ model: ModelCheckpoint) {
        let configuration = model.configuration
        embeddingDimension = configuration.embeddingWidth
        imageSize = configuration.vision.imageSize
        contextLength = configuration.text.contextLength
        logitScale = Float(exponential(Double(model.logitScale)))
        logitBias = model.logitBias
        paddingID = configuration.text.paddingID
        endOfText =
            switch configuration.text.pooling {
            case .first(let id): id
            case .greatestID, .start, .end, .classToken, .mean: Int32(configuration.text.vocabularySize - 1)
            }
        facts = configuration.facts.map { Fact(name: $0.name, value: $0.value, source: $0.source) }
    }
}

extension ModelInformation {
    /// As `CLIP.probabilities(ofCosines:)`.
    func probabilities(ofCosines cosines: [Float]) -> [Float] {
        logitBias == nil ? logits(cosines).softmax() : logits(cosines).map(\.sigmoid)
    }

    func logits(_ cosines: [Float]) -> [Float] { cosines.map { $0 * logitScale + (logitBias ?? 0) } }
}

extension Preprocessing {
    /// - Throws: `CLIPError` for a filter that no known CLIP model uses.
    init(_ facts: PreprocessingFacts) throws {
        let interpolation: Interpolation
        switch facts.interpolation {
        case .bicubic: interpolation = .bicubic
        case .bilinear: interpolation = .bilinear
        case let other:
            throw CLIPError(
                .model,
                "The model asks for \(other.rawValue) resizing: bicubic and bilinear can be done.")
        }
        let (mode, side): (ResizeMode, Int) =
            switch facts.resize {
            case .shortest(let side): (.shortest, side)
            case .squash(let side): (.squash, side)
            case .longest(let side): (.longest, side)
            }
        let normalization = facts.normalization
        self.init(
            size: facts.cropSize, scaledSize: side == facts.cropSize ? nil : side,
            mean: SIMD3(normalization.mean[0], normalization.mean[1], normalization.mean[2]),
            deviation: SIMD3(normalization.deviation[0], normalization.deviation[1], normalization.deviation[2]),
            interpolation: interpolation, resizeMode: mode, fill: facts.fill)
    }
}
