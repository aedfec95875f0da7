// Everything before the device: a picture's pixels, a sentence's tokens. Runs on any thread.

import CLIPCompute
import CLIPInput
import CLIPModel
import Checkpoints

/// How pictures and texts are prepared where the reference leaves a choice.
public struct PreparationOptions: Sendable, Hashable {
    /// Turn pictures as their EXIF orientation says. The reference does not.
    public var followsEXIF = false
    /// Cut texts that are too long for the model's context instead of refusing them: `clip.tokenize(…, truncate=True)`.
    public var truncatesText = false
    /// Pictures with more pixels are refused before they are decoded; by default Pillow's limit.
    public var largestPicture = PreparationOptions.pillowLimit

    /// Twice `PIL.Image.MAX_IMAGE_PIXELS`: where Pillow raises `DecompressionBombError`.
    public static let pillowLimit = 2 * 89_478_485

    /// As the reference does.
    public init() {}
}

/// An input as the device takes it.
enum PreparedInput: Sendable {
    /// `[side, side, 3]`
    case bytes([UInt8])
    /// `[3, side, side]`, normalised.
    case floats([Float])
    /// Not padded.
    case tokens([Int32])
    case failure(CLIPError)
}

/// A model's preprocessing and tokenizer as one value that any thread may use.
struct Preparer: Sendable {
    let images: ImagePreprocessor
    /// None for a model without a text tower.
    let tokenizer: (any TextTokenizer)?
    let contextLength: Int
    /// None without a model.
    let text: TextConfiguration?
    var options: PreparationOptions

    func prepare(_ input: EmbeddingInput) -> PreparedInput {
        do throws(CLIPError) {
            switch input.content {
            case .failure(let error): return .failure(error)
            case .text(let text): return .tokens(try tokens(text))
            case .file(let path): return .bytes(try pixels(contentsOf: path))
            case .bytes(let bytes): return .bytes(try pixels(bytes, name: input.name))
            case .pixels(let file, let index): return .floats(try floats(file, index: index, name: input.name))
            }
        } catch {
            return .failure(error)
        }
    }
}

extension Preparer {
    /// The ids of a text with those around it, not padded.
    func tokens(_ text: String) throws(CLIPError) -> [Int32] {
        guard let tokenizer else { throw CLIPError(.input, "The model was loaded without its text tower.") }
        let ids: [Int32]
        do throws(TokenizerError) {
            ids = try tokenizer.tokenize(text, contextLength: contextLength, truncate: options.truncatesText)
        } catch {
            throw CLIPError(.input, error.description)
        }
        // Here, so that a text with a token that the model does not take is told apart from those computed beside it.
        do throws(ModelError) {
            try self.text?.check(ids, name: "The text \(JSONText.quoted(String(text.prefix(60))))")
        } catch {
            throw CLIPError(.input, error.description + ".")
        }
        return ids
    }

    func pixels(contentsOf path: String) throws(CLIPError) -> [UInt8] {
        try pixels(readFile(path), name: path)
    }

    /// `[side, side, 3]` of a picture file's bytes.
    func pixels(_ bytes: [UInt8], name: String) throws(CLIPError) -> [UInt8] {
        do throws(ImageError) {
            return try images.rgb(decoding: bytes)
        } catch {
            throw CLIPError(.input, "\(name): \(error.description)")
        }
    }

    /// One `[3, side, side]` of a tensor of pixels that are already normalised.
    func floats(_ file: StoredTensor, index: Int, name: String) throws(CLIPError) -> [Float] {
        let side = images.preprocessing.size
        guard file.shape.suffix(3) == [3, side, side] else {
            throw CLIPError(
                .input, "\(name) has the shape \(Array(file.shape.suffix(3))): this model takes [3, \(side), \(side)].")
        }
        let count = 3 * side * side
        guard let elementType = file.type.elementType else {
            throw CLIPError(.input, "\(name) holds \(file.type.rawValue) elements: pixels are floats.")
        }
        var values = [Float](repeating: 0, count: count)
        file.withBytes { bytes in
            let tensor = HostTensor(shape: file.shape, elementType: elementType, bytes: bytes, owner: nil)
            values.withUnsafeMutableBufferPointer { tensor.copyFloats(from: index * count, into: $0) }
        }
        return try finite(values, name: name)
    }

    func finite(_ values: [Float], name: String) throws(CLIPError) -> [Float] {
        if let index = values.firstIndex(where: { !$0.isFinite }) {
            throw CLIPError(
                .input, "\(name) holds \(values[index]) at element \(index): pixels must be finite numbers.")
        }
        return values
    }
}
