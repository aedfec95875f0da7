// How far int8 and fp16 are from fp32 on the built-in model: as it is, and with outliers put in that change nothing in
// exact arithmetic, as large trained models have them.

import CLIPGPU
import CLIPModel
import Checkpoints
import Foundation
import Testing

/// The demonstration model in float32, as a folder; `outliers`: in each block, gain and bias of eight channels of each
/// norm times 64, and the matching columns of the next weights divided by 64.
private func demonstrationModel(outliers: Bool) throws -> TemporaryFolder {
    let source = repository + "/Sources/CDemoModel/Model/"
    let folder = try TemporaryFolder()
    for name in ["config.json", "preprocessor_config.json"] {
        try folder.write(name, String(contentsOfFile: source + name, encoding: .utf8))
    }
    var header: [String: [String: Any]] = [:]
    var data = Data()
    for tensor in try Safetensors.open(path: source + "model.safetensors").tensors {
        try #require(tensor.type == .float16)
        var values = tensor.withBytes { bytes in
            (0..<tensor.count).map {
                Float(Float16(bitPattern: bytes.loadUnaligned(fromByteOffset: 2 * $0, as: UInt16.self)))
            }
        }
        let ofBlock = outliers && tensor.name.contains(".layers.")
        let isNorm = tensor.name.contains(".layer_norm")
        let isNext = ["q_proj.weight", "k_proj.weight", "v_proj.weight", "fc1.weight"].contains {
            tensor.name.hasSuffix($0)
        }
        if ofBlock && (isNorm || isNext), let width = tensor.shape.last {
            let channels = Set((0..<8).map { ($0 * 37 + 5) % width })
            for i in values.indices where channels.contains(i % width) { values[i] *= isNorm ? 64 : 1 / 64 }
        }
        let start = data.count
        values.withUnsafeBytes { data.append(contentsOf: $0) }
        header[tensor.name] = ["dtype": "F32", "shape": tensor.shape, "data_offsets": [start, data.count]]
    }
    let json = try JSONSerialization.data(withJSONObject: header)
    let length = withUnsafeBytes(of: UInt64(json.count).littleEndian) { Array($0) }
    try folder.write("model.safetensors", length + Array(json) + Array(data))
    return folder
}

/// Unit embeddings of the evaluation set.
private struct Answers {
    let images: Embeddings
    let prompts: Embeddings
    let captions: Embeddings

    init(_ set: Evaluation, _ folder: TemporaryFolder, device: Device, precision: Precision) throws {
        let clip = try CLIP.load(folder.path, device: device, precision: precision)
        #expect(clip.precision == precision)
        images = try clip.encodeImage(set.pictures.map { try clip.preprocess($0) }).normalized()
        prompts = try clip.encodeText(clip.tokenize(set.prompts)).normalized()
        captions = try clip.encodeText(
            clip.tokenize(set.scenes.filter { $0.kind == "caption" }.map(\.caption))
        ).normalized()
    }

    /// Share of the single scenes whose nearest prompt is their own.
    func accuracy(_ set: Evaluation) -> Double {
        let similarity = images.cosineSimilarity(to: prompts)
        let labelled = set.scenes.indices.filter { set.scenes[$0].label != nil }
        let right = labelled.count { scene in
            similarity[scene].firstIndex(of: similarity[scene].max() ?? .nan) == set.scenes[scene].label
        }
        return Double(right) / Double(labelled.count)
    }

    var kinds: [(name: String, rows: Embeddings)] {
        [("images", images), ("prompts", prompts), ("captions", captions)]
    }
}

/// The least cosine of matching rows, as they are and with the mean of `expected` subtracted from both.
private func leastCosines(_ found: Embeddings, _ expected: Embeddings) -> (plain: Double, centred: Double) {
    let columns = expected.dimension
    var mean = [Double](repeating: 0, count: columns)
    for row in 0..<expected.count {
        for (c, value) in expected[row].enumerated() { mean[c] += Double(value) / Double(expected.count) }
    }
    func cosine(_ row: Int, _ mean: [Double]) -> Double {
        let a = zip(found[row], mean).map { Double($0) - $1 }
        let b = zip(expected[row], mean).map { Double($0) - $1 }
        func product(_ x: [Double], _ y: [Double]) -> Double { zip(x, y).reduce(0) { $0 + $1.0 * $1.1 } }
        return product(a, b) / (product(a, a) * product(b, b)).squareRoot()
    }
    let zero = [Double](repeating: 0, count: columns)
    let rows = 0..<expected.count
    return (rows.map { cosine($0, zero) }.min() ?? .nan, rows.map { cosine($0, mean) }.min() ?? .nan)
}

@Test(
    "by itself a GPU computes T5's text towers in fp32, all else in fp16",
    arguments: ["open-clip-mt5", "open-clip-plain"])
func outgrownHalves(name: String) throws {
    let path = repository + "/Tests/CLIPModelTests/Fixtures/" + name
    let configuration = try ModelCheckpoint.open(path: path).configuration
    #expect(Precision.automatic.suited(to: configuration, .both) == (name == "open-clip-mt5" ? .fp32 : .automatic))
    #expect(Precision.automatic.suited(to: configuration, .image) == .automatic)
    #expect(Precision.fp16.suited(to: configuration, .both) == .fp16)
}

@Test("int8 and fp16 stay near fp32, with outliers and without") func reducedPrecisions() throws {
    let set = try Evaluation()
    let plain = try demonstrationModel(outliers: false)
    let withOutliers = try demonstrationModel(outliers: true)
    let exact = try Answers(set, plain, device: .cpu, precision: .fp32)

    let moved = try Answers(set, withOutliers, device: .cpu, precision: .fp32)
    for (a, b) in zip(moved.kinds, exact.kinds) {
        let distance = zip(a.rows.values, b.rows.values).reduce(0) { max($0, abs($1.0 - $1.1)) }
        #expect(distance <= 1e-5, "\(a.name) in fp32, moved by outliers")
    }

    var runs: [(Device, Precision, plain: Double, centred: Double)] = [(.cpu, .int8, 0.999, 0.99)]
    for device in Device.available().devices where device.precisions.contains(.fp16) {
        runs.append((device.device, .fp16, 0.9999, 0.999))
    }
    for (device, precision, least, leastCentred) in runs {
        for (folder, what) in [(plain, "as it is"), (withOutliers, "with outliers")] {
            let found = try Answers(set, folder, device: device, precision: precision)
            for (a, b) in zip(found.kinds, exact.kinds) {
                let cosines = leastCosines(a.rows, b.rows)
                print("\(device) \(precision.rawValue), \(what), \(a.name): least cosine \(cosines)")
                #expect(cosines.plain >= least, "\(device) \(precision.rawValue), \(what), \(a.name)")
                #expect(cosines.centred >= leastCentred, "\(device) \(precision.rawValue), \(what), \(a.name)")
            }
            #expect(abs(found.accuracy(set) - exact.accuracy(set)) <= 0.005, "\(device) \(precision.rawValue), \(what)")
        }
    }
}
