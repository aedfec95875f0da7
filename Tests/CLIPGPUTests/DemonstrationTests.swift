// What the built-in model is good for, on every device: it names drawn scenes, and agrees with transformers.
// The set and the reference's embeddings are described in Fixtures/demo-evaluation/README.md.
import CLIPGPU
import Checkpoints
import Foundation
import Testing

struct Evaluation {
    struct Scene: Decodable {
        let offset: Int
        let length: Int
        let kind: String
        let caption: String
        let label: Int?
        let held_out: Bool
    }

    struct Classes: Decodable {
        let prompts: [String]
    }

    let scenes: [Scene]
    let pictures: [[UInt8]]
    let prompts: [String]
    let reference: Checkpoint

    init() throws {
        let folder = repository + "/Tests/CLIPGPUTests/Fixtures/demo-evaluation/"
        func data(_ name: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: folder + name)) }
        let decoder = JSONDecoder()
        scenes = try data("scenes.jsonl").split(separator: UInt8(ascii: "\n")).map {
            try decoder.decode(Scene.self, from: $0)
        }
        let bytes = Array(try data("pictures.bin"))
        pictures = scenes.map { Array(bytes[$0.offset..<($0.offset + $0.length)]) }
        prompts = try decoder.decode(Classes.self, from: data("classes.json")).prompts
        reference = try Safetensors.open(path: folder + "reference.safetensors")
    }

    /// Greatest distance of a row from the reference's, as a share of that row's distance from the mean of its set.
    func error(of found: Embeddings, from key: String) throws -> Double {
        let tensor = try #require(reference[key])
        try #require(tensor.shape == [found.count, found.dimension])
        let expected = tensor.withBytes { bytes in
            (0..<tensor.count).map { bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) }
        }
        let columns = found.dimension
        let means = (0..<columns).map { column in
            stride(from: column, to: expected.count, by: columns).reduce(0.0) { $0 + Double(expected[$1]) }
                / Double(found.count)
        }
        return (0..<found.count).map { row in
            var difference = 0.0
            var size = 0.0
            for (column, mean) in means.enumerated() {
                let value = Double(expected[row * columns + column])
                let distance = Double(found.values[row * columns + column]) - value
                difference += distance * distance
                size += (value - mean) * (value - mean)
            }
            let error = (difference / size).squareRoot()
            return error.isNaN ? .infinity : error
        }.max() ?? .infinity
    }
}

/// Share of the rows whose greatest value stands where `expected` says.
private func share(of rows: [[Float]], at expected: [Int]) -> Double {
    let right = zip(rows, expected).filter { row, place in row.firstIndex(of: row.max() ?? .nan) == place }
    return Double(right.count) / Double(rows.count)
}

@Test(
    "The demonstration model names scenes that it never saw, and agrees with transformers",
    arguments: Device.available().devices.map(\.identifier))
func demonstration(device: String) throws {
    let set = try Evaluation()
    let clip = try CLIP.load(device: try #require(Device(device)), precision: .fp32)
    let images = try clip.encodeImage(set.pictures.map { try clip.preprocess($0) })
    let prompts = try clip.encodeText(clip.tokenize(set.prompts))
    let described = set.scenes.indices.filter { set.scenes[$0].kind == "caption" }
    let captions = try clip.encodeText(clip.tokenize(described.map { set.scenes[$0].caption }))

    // float32 against double: sums in another order
    #expect(try set.error(of: images, from: "images") < 1e-4)
    #expect(try set.error(of: prompts, from: "prompts") < 1e-4)
    #expect(try set.error(of: captions, from: "captions") < 1e-4)

    let toPrompts = images.cosineSimilarity(to: prompts)
    for (heldOut, least) in [(false, 0.95), (true, 0.85)] {
        let chosen = set.scenes.indices.filter { set.scenes[$0].label != nil && set.scenes[$0].held_out == heldOut }
        let accuracy = share(of: chosen.map { toPrompts[$0] }, at: chosen.compactMap { set.scenes[$0].label })
        #expect(accuracy >= least, "zero-shot accuracy, held-out pairs: \(heldOut)")
    }
    let columns = images.dimension
    let pictures = Embeddings(values: described.flatMap { images[$0] }, dimension: columns)
    let own = Array(described.indices)
    #expect(share(of: pictures.cosineSimilarity(to: captions), at: own) >= 0.8, "R@1, picture to caption")
    #expect(share(of: captions.cosineSimilarity(to: pictures), at: own) >= 0.8, "R@1, caption to picture")
}
