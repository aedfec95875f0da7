// Zero-shot classification: what labels become, which of them fits, and how often that is right. The reference's values are
// described in Fixtures/zero-shot/README.md.

import CLIPGPU
import Checkpoints
import Foundation
import Testing

/// What open_clip's functions make of the demonstration model.
private struct ZeroShotReference: Decodable {
    let labels: [String]
    let templates: [String]
    let samples: [String]
    let scenes: [Int]
    let targets: [Int]
    let acc1: Double
    let acc5: Double
    let mean_per_class_recall: Double

    private static let folder = repository + "/Tests/CLIPGPUTests/Fixtures/zero-shot/"

    static func read() throws -> ZeroShotReference {
        try JSONDecoder().decode(
            ZeroShotReference.self, from: Data(contentsOf: URL(fileURLWithPath: folder + "reference.json")))
    }

    static func values(_ name: String) throws -> [Float] {
        let tensor = try #require(try Safetensors.open(path: folder + "reference.safetensors")[name])
        return tensor.withBytes { bytes in
            (0..<tensor.count).map { bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) }
        }
    }
}

private func worst(_ found: [Float], _ expected: [Float]) -> Float {
    found.count == expected.count ? zip(found, expected).map { abs($0 - $1) }.max() ?? 0 : .infinity
}

/// The sentence of the error that a call throws.
private func refusal(_ body: () throws -> Void) -> String? {
    do {
        try body()
        return nil
    } catch let error as CLIPError {
        return error.code == .input && error.description.hasSuffix(".") ? error.description : nil
    } catch {
        return nil
    }
}

@Suite("zero-shot classification") struct ZeroShotTests {
    private static func sample(_ name: String) -> String { repository + "/tools/samples/" + name }

    @Test(
        "Labels' vectors, cosines and probabilities are those of open_clip's functions",
        arguments: Device.available().devices.map(\.identifier))
    func agrees(device: String) throws {
        let reference = try ZeroShotReference.read()
        let clip = try CLIP.load(device: try #require(Device(device)), precision: .fp32)
        let classifier = try clip.zeroShotClassifier(labels: reference.labels, templates: reference.templates)
        // A mean of vectors that have not been brought to unit length is 0.016 away.
        #expect(worst(classifier.vectors.values, try ZeroShotReference.values("vectors")) < 1e-5)
        let images = try clip.encodeImage(reference.samples.map { try clip.preprocess(contentsOf: Self.sample($0)) })
        let expected = try ZeroShotReference.values("cosines")
        #expect(worst(try classifier.cosines(of: images).flatMap(\.self), expected) < 1e-5)
        let matches = try classifier.classify(images).flatMap { $0.sorted { $0.index < $1.index } }
        #expect(Array(matches.prefix(reference.labels.count).map(\.label)) == reference.labels)
        #expect(worst(matches.map(\.cosine), expected) < 1e-5)
        #expect(worst(matches.map(\.probability), try ZeroShotReference.values("probabilities")) < 1e-5)
        let best = try classifier.classify(images, top: 1).flatMap { $0.map(\.label) }
        #expect(Array(best[..<3]) == ["red circle", "blue heart", "white star"])
    }

    @Test("The best labels come first, equal ones in their order, and the probabilities are those of all labels")
    func order() throws {
        let clip = try CLIP.load(device: .cpu)
        let labels = ["red circle", "blue heart", "red circle", "white star"]
        let classifier = try clip.zeroShotClassifier(labels: labels)
        let image = try clip.encodeImage([clip.preprocess(contentsOf: Self.sample("red-circle.png"))])
        let all = try classifier.classify(image)[0]
        #expect(all[..<2].map(\.index) == [0, 2])
        #expect(all[0].cosine == all[1].cosine && all[0].probability == all[1].probability)
        #expect(zip(all, all.dropFirst()).allSatisfy { $0.cosine >= $1.cosine })
        #expect(abs(all.reduce(0) { $0 + $1.probability } - 1) < 1e-5)
        for count in [0, 1, 3, 9] {
            #expect(try classifier.classify(image, top: count) == [Array(all.prefix(count))])
        }
        // The same as one sentence a label and `probabilities(ofCosines:)`.
        let texts = try clip.encodeText(clip.tokenize(labels.map { "a photo of a \($0)" }))
        let expected = clip.probabilities(ofCosines: image.cosineSimilarity(to: texts)[0])
        #expect(all.allSatisfy { abs($0.probability - expected[$0.index]) < 1e-4 })
        #expect(try classifier.classify(Embeddings(values: [], dimension: image.dimension)) == [])
    }

    @Test("Vectors do not depend on how many sentences are computed together, nor on the other labels")
    func alone() throws {
        let clip = try CLIP.load(device: .cpu, towers: .text)
        let templates = ["a {}", "the small {} and the big {}", "{}"]
        let labels = (0..<70).map { "thing number \($0)" }
        var told: [Int] = []
        let all = try clip.zeroShotClassifier(labels: labels, templates: templates) { told.append($0) }
        #expect(told == Array(1...210))
        let few = try clip.zeroShotClassifier(labels: labels, templates: templates, batchSize: 4)
        #expect(all.vectors == few.vectors)
        let one = try clip.zeroShotClassifier(labels: [labels[69]], templates: templates)
        #expect(Array(all.vectors[69]) == one.vectors.values)
        // Every {} is the label.
        let spelt = try clip.zeroShotClassifier(
            labels: [labels[69]], templates: ["the small {} and the big thing number 69"])
        let filled = try clip.zeroShotClassifier(labels: [labels[69]], templates: [templates[1]])
        #expect(spelt.vectors == filled.vectors)
    }

    @Test("Vectors that were kept are taken as they are; others are brought to unit length, or refused")
    func kept() throws {
        let clip = try CLIP.load(device: .cpu, towers: .text)
        let made = try clip.zeroShotClassifier(labels: ["red circle", "blue heart", "red circle"])
        let folder = try TemporaryFolder()
        let path = folder.path + "/labels.safetensors"
        try made.write(to: path, model: "some/model")
        let collection = try EmbeddingCollection(contentsOf: path)
        #expect(collection.metadata["model"] == "some/model")
        let kept = try clip.zeroShotClassifier(contentsOf: collection)
        #expect(kept.labels == made.labels && kept.vectors == made.vectors)

        func classifier(_ rows: [[Float]]) throws -> ZeroShotClassifier {
            let path = folder.path + "/rows.safetensors"
            let writer = try EmbeddingWriter(path: path, format: .safetensors, dimension: rows.first?.count ?? 96)
            for (index, row) in rows.enumerated() { try writer.append(row[...], input: "\(index)", kind: .text) }
            try writer.finish()
            return try clip.zeroShotClassifier(contentsOf: EmbeddingCollection(contentsOf: path))
        }
        let unit = Array(made.vectors[1])
        let scaled = try classifier([unit.map { $0 * 7 }, unit])
        #expect(scaled.labels == ["0", "1"])
        #expect(worst(Array(scaled.vectors[0]), unit) < 1e-6 && worst(Array(scaled.vectors[1]), unit) < 1e-6)
        #expect(refusal { _ = try classifier([unit, [Float](repeating: 0, count: 96)]) }?.contains("row 1") == true)
        #expect(refusal { _ = try classifier([[1, 0, 0]]) }?.contains("3 numbers") == true)
        #expect(refusal { _ = try classifier([]) }?.contains("no rows") == true)
    }

    @Test("A service's classifier is the same")
    func service() async throws {
        let labels = ["red circle", "blue heart"]
        let classifier = try await CLIPService.load(device: .cpu).zeroShotClassifier(labels: labels)
        #expect(try classifier.vectors == CLIP.load(device: .cpu).zeroShotClassifier(labels: labels).vectors)
    }

    @Test("What cannot be a classifier is refused in a sentence")
    func refuses() throws {
        let clip = try CLIP.load(device: .cpu, towers: .text)
        #expect(refusal { _ = try clip.zeroShotClassifier(labels: []) }?.contains("no labels") == true)
        #expect(
            refusal { _ = try clip.zeroShotClassifier(labels: ["a"], templates: []) }?.contains("no templates") == true)
        #expect(
            refusal { _ = try clip.zeroShotClassifier(labels: ["a"], templates: ["a {}", "a photo"]) }?.contains(
                "\"a photo\" has no {}") == true)
        let long = String(repeating: "word ", count: 90)
        #expect(refusal { _ = try clip.zeroShotClassifier(labels: ["a", long]) }?.contains("too long") == true)
        _ = try clip.zeroShotClassifier(labels: ["a", long], truncate: true)
        let classifier = try clip.zeroShotClassifier(labels: ["a"])
        #expect(
            refusal { _ = try classifier.classify(Embeddings(values: [1, 2], dimension: 2)) }?.contains("2") == true)
        struct Enough: Error {}
        #expect(throws: Enough.self) {
            try clip.zeroShotClassifier(labels: ["a", "b", "c"]) { if $0 == 2 { throw Enough() } }
        }
    }

    @Test("Built-in lists are open_clip's; files hold one a line")
    func lists() throws {
        let labels = try ZeroShotClassifier.labels("imagenet")
        #expect(labels.count == 1000 && labels[0] == "tench" && labels[999] == "toilet paper")
        #expect(Set(labels).count == 998)
        let openAI = try ZeroShotClassifier.templates("openai")
        #expect(openAI.count == 80 && openAI[0] == "a bad photo of a {}." && openAI[79] == "a tattoo of the {}.")
        let simple = try ZeroShotClassifier.templates("simple")
        #expect(simple.count == 7 && Set(simple).isSubset(of: openAI))
        #expect((openAI + simple).allSatisfy { $0.contains("{}") })

        let folder = try TemporaryFolder()
        let file = try folder.write("labels.txt", "red circle\r\n\n blue heart \nwhite star")
        #expect(try ZeroShotClassifier.labels(file) == ["red circle", " blue heart ", "white star"])
        #expect(try ZeroShotClassifier.templates(file).count == 3)
        let empty = try folder.write("empty.txt", "\n\n")
        #expect(refusal { _ = try ZeroShotClassifier.labels(empty) }?.contains("empty.txt") == true)
        #expect(refusal { _ = try ZeroShotClassifier.templates("opnai") }?.contains("opnai") == true)
        #expect(refusal { _ = try ZeroShotClassifier.labels(folder.path) }?.contains("directory") == true)
    }

    @Test("Accuracy on a folder of classes is scikit-learn's, and what fails is not counted")
    func evaluates() throws {
        let reference = try ZeroShotReference.read()
        let set = try Evaluation()
        let folder = try TemporaryFolder()
        for (scene, target) in zip(reference.scenes, reference.targets) {
            let name = reference.labels[target].replacingOccurrences(of: " ", with: "_")
            try folder.write("\(name)/\(scene % 2 == 0 ? "deeper/" : "")\(scene).webp", set.pictures[scene])
        }
        try folder.write("black_circle/broken.png", "no picture")  // The one class without pictures.
        try folder.write("beside.png", onePixelPNG)
        try folder.write(".hidden/one.png", onePixelPNG)
        let folders = try ClassFolders(contentsOf: folder.path)
        #expect(folders.labels == reference.labels)
        #expect(folders.index(of: folder.path + "/beside.png") == nil && folders.index(of: "red_circle") == nil)

        let clip = try CLIP.load(device: .cpu)
        let classifier = try clip.zeroShotClassifier(labels: folders.labels, templates: reference.templates)
        var accuracy = ZeroShotAccuracy(classes: folders.names.count)
        var failed: [String] = []
        try clip.embed(folders.inputs) { result in
            guard case .success(let embedding) = result.embedding else { return failed.append(result.name) }
            let image = Embeddings(values: Array(embedding), dimension: embedding.count)
            accuracy.count(try classifier.cosines(of: image)[0], of: try #require(folders.index(of: result.name)))
        }
        #expect(failed == [folder.path + "/black_circle/broken.png"])
        #expect(accuracy.pictures == reference.scenes.count)
        #expect(abs(accuracy.accuracy - reference.acc1) < 1e-12)
        #expect(abs((accuracy.topAccuracy ?? 0) - reference.acc5) < 1e-12)
        #expect(abs(accuracy.meanPerClassRecall - reference.mean_per_class_recall) < 1e-12)
        #expect(accuracy.confusions.reduce(0) { $0 + $1.pictures } == accuracy.pictures - accuracy.right)
    }

    @Test("What is counted: ranks, ties, classes without pictures, confusions")
    func counts() throws {
        var accuracy = ZeroShotAccuracy(classes: 4, top: 2)
        accuracy.count([0.9, 0.1, 0.2, 0.3], of: 0)
        accuracy.count([0.5, 0.5, 0.2, 0.3], of: 0)  // The first of equal ones.
        accuracy.count([0.5, 0.5, 0.2, 0.3], of: 1)
        accuracy.count([0.5, 0.4, 0.2, 0.3], of: 3)
        accuracy.count([0.5, 0.1, 0.2, 0.3], of: 1)
        #expect((accuracy.pictures, accuracy.right, accuracy.amongTop) == (5, 2, 3))
        #expect(accuracy.accuracy == 0.4 && accuracy.topAccuracy == 0.6)
        // 1, 0 of 2, no pictures, 0 of 1.
        #expect(abs(accuracy.meanPerClassRecall - 1.0 / 3) < 1e-12)
        #expect(accuracy.confusions.map { [$0.expected, $0.predicted, $0.pictures] } == [[1, 0, 2], [3, 0, 1]])
        #expect(ZeroShotAccuracy(classes: 4, top: 5).topAccuracy == nil)
    }

    @Test("Classes are told apart by the bytes of their names; a folder without subfolders, and none, are refused")
    func folders() throws {
        let names = try TemporaryFolder()
        for name in ["cafe\u{301}", "caf\u{E9}", "a", "a b", "\u{301}"] {
            try names.write(name + "/1.png", onePixelPNG)
        }
        let classes = try ClassFolders(contentsOf: names.path + "/")
        #expect(
            classes.names.map { Array($0.utf8) }
                == ["a", "a b", "cafe\u{301}", "caf\u{E9}", "\u{301}"].map { Array($0.utf8) })
        #expect(classes.inputs.map { classes.index(of: $0.name) } == [0, 1, 2, 3, 4])

        let folder = try TemporaryFolder()
        try folder.write("one.png", onePixelPNG)
        #expect(refusal { _ = try ClassFolders(contentsOf: folder.path) }?.contains("no subfolders") == true)
        #expect(refusal { _ = try ClassFolders(contentsOf: folder.path + "/none") }?.contains("none") == true)
        #expect(refusal { _ = try ClassFolders(contentsOf: folder.path + "/one.png") }?.contains("one.png") == true)
    }
}
