// Pictures to pixels without a device: the reference's `preprocess` for whole collections.

import CLIPInput
import CLIPModel
import Dispatch

/// A model's preprocessing without the model.
public struct Preprocessor: Sendable {
    private let preparer: Preparer

    /// Preprocessing of a model (a file or a folder), or OpenAI's at 224 pixels for none; `size` overrides the side.
    ///
    /// - Throws: `CLIPError` with the code `.model`.
    public init(model: String? = nil, size: Int? = nil, options: PreparationOptions = PreparationOptions()) throws {
        var preprocessing = Preprocessing(size: 224)
        if let model {
            preprocessing = try CLIP.translatingErrors {
                try Preprocessing(CLIP.open(model, ModelOptions(needsActivation: false)).configuration.preprocessing)
            }
        }
        if let size {
            preprocessing.size = size
            preprocessing.scaledSize = nil
        }
        preparer = Preparer(
            images: ImagePreprocessor(
                preprocessing, appliesOrientation: options.followsEXIF, pixelLimit: options.largestPicture),
            tokenizer: BytePairTokenizer(specialTokens: .openAI), contextLength: 77, text: nil, options: options)
    }

    /// Pixels of a result's side.
    public var size: Int { preparer.images.preprocessing.size }

    /// Hands over each picture's `[3, size, size]`, in the order of the inputs; several are decoded at once.
    ///
    /// - Throws: what `body` throws.
    public func forEach(
        _ inputs: some Sequence<EmbeddingInput>, shouldStop: () -> Bool = { false },
        _ body: (_ name: String, _ pixels: Result<[Float], CLIPError>) throws -> Void
    ) throws {
        var preparation = PreparationQueue(inputs, preparer, window: 16)
        while !shouldStop(), let (input, prepared) = preparation.next() {
            switch prepared {
            case .bytes(let bytes): try body(input.name, .success(preparer.images.normalized(bytes)))
            case .floats(let floats): try body(input.name, .success(floats))
            case .failure(let error): try body(input.name, .failure(error))
            case .tokens: try body(input.name, .failure(CLIPError(.input, "\(input.name) is not a picture.")))
            }
        }
    }
}

/// Counts inputs on another thread, for progress.
public final class BackgroundCount: Sendable {
    private let result = ResultBox<Int?>()

    /// Starts counting.
    public init(_ inputs: EmbeddingInputs) {
        let result = result
        DispatchQueue.global(qos: .utility).async { result.set(inputs.count()) }
    }

    /// How many inputs there are; none while counting, or where counting cannot tell.
    public var value: Int? { result.value ?? nil }
}
