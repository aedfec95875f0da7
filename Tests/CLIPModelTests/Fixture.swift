// The checkpoints and expected values that tools/make_model_fixtures.py made with transformers.
import CLIPCompute
import CLIPModel
import Checkpoints
import Foundation
import Testing

struct Fixture: CustomTestStringConvertible {
    let name: String
    let folder: String
    private let values: Checkpoint?

    static let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures").path()

    /// `expected` names the folder whose values count, where the checkpoint has none of its own.
    init(_ name: String, expected: String? = nil) {
        self.name = name
        folder = Self.folder + "/" + name
        values = try? Safetensors.open(path: Self.folder + "/" + (expected ?? name) + "/fixtures.safetensors")
    }

    var testDescription: String { name }

    func tensor(_ key: String) throws -> StoredTensor {
        try #require(values?[key], "\(name) has no value \(key)")
    }

    func floats(_ key: String) throws -> [Float] {
        let tensor = try tensor(key)
        try #require(tensor.type == .float32)
        return tensor.withBytes { bytes in
            (0..<tensor.count).map { bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) }
        }
    }

    /// The sentences of `inputs.input_ids`, noise after the end token included.
    func ids() throws -> [[Int32]] {
        let tensor = try tensor("inputs.input_ids")
        let ids = integers(tensor).map { Int32($0) }
        return stride(from: 0, to: ids.count, by: tensor.shape[1]).map { Array(ids[$0..<($0 + tensor.shape[1])]) }
    }

    /// Sentences that have beginnings of every length in common, in no order, some of them twice.
    func sentencesThatBeginAlike() throws -> [[Int32]] {
        let ids = try ids()
        let (first, second) = (try #require(ids.first), try #require(ids.last))
        var sentences = [second, first]
        for place in first.indices.dropFirst().prefix(6) {
            var changed = first
            changed[place] = second[(place + 1) % second.count]
            sentences += [changed, second, first]
        }
        return sentences
    }

    func lengths() throws -> [Int] {
        try integers(tensor("inputs.lengths"))
    }

    private func integers(_ tensor: StoredTensor) -> [Int] {
        tensor.withBytes { bytes in
            (0..<tensor.count).map { Int(bytes.loadUnaligned(fromByteOffset: $0 * 8, as: Int64.self)) }
        }
    }

    /// Lends the fixture's pictures, `repeated` times one after the other.
    func withPixels<Result>(repeated: Int = 1, _ body: (Pixels) throws -> Result) throws -> Result {
        let shape = try tensor("inputs.pixel_values").shape
        let floats = try [[Float]](repeating: floats("inputs.pixel_values"), count: repeated).flatMap(\.self)
        return try floats.withUnsafeBufferPointer {
            try body(Pixels(.floats($0), count: shape[0] * repeated, height: shape[2], width: shape[3]))
        }
    }

    /// The parsed config.json, as data that a test may change.
    func config() throws -> [String: Any] {
        let data = try Data(contentsOf: URL(filePath: folder + "/config.json"))
        return try #require(JSONSerialization.jsonObject(with: data) as? [String: Any])
    }

    func weights() throws -> Checkpoint { try Safetensors.open(path: folder + "/model.safetensors") }
}

/// The greatest relative distance of two sets of rows, `[count, columns]`, from each other. The reference's mean row
/// is subtracted from both first: rows of one model point the same way, which hides differences.
func centredError(_ found: [Float], _ expected: [Float], columns: Int) -> Double {
    guard found.count == expected.count, !expected.isEmpty else { return .infinity }
    let rows = expected.count / columns
    var worst = 0.0
    let means = (0..<columns).map { column in
        rows == 1 ? 0 : (0..<rows).reduce(0.0) { $0 + Double(expected[$1 * columns + column]) } / Double(rows)
    }
    for row in 0..<rows {
        var difference = 0.0
        var size = 0.0
        for column in 0..<columns {
            let index = row * columns + column
            difference +=
                (Double(found[index]) - Double(expected[index])) * (Double(found[index]) - Double(expected[index]))
            size += (Double(expected[index]) - means[column]) * (Double(expected[index]) - means[column])
        }
        let error = (difference / size).squareRoot()
        worst = error.isNaN ? .infinity : max(worst, error)
    }
    return worst
}
