// Collections: what a search finds, and what an update keeps.

import CLIPGPU
import Foundation
import Testing

/// Numbers that look drawn, the same each time.
private func numbers(_ count: Int, seed: UInt64) -> [Float] {
    var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
    return (0..<count).map { _ in
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return Float(Int(state >> 40) - (1 << 23)) / Float(1 << 23)
    }
}

private func save(_ rows: [Float], dimension: Int, to path: String, names: [String]? = nil) throws {
    let writer = try EmbeddingWriter(
        path: path, format: EmbeddingFormat(path: path), dimension: dimension, metadata: [("model", "some model")])
    for row in 0..<(rows.count / dimension) {
        try writer.append(
            rows[(row * dimension)..<((row + 1) * dimension)], input: names?[row] ?? "picture \(row)", kind: .image)
    }
    try writer.finish()
}

@Suite("collections") struct CollectionTests {
    @Test("A search finds the greatest cosines of all rows", arguments: ["c.npy", "c.safetensors"])
    func finds(name: String) throws {
        let folder = try TemporaryFolder()
        let (count, dimension) = (2_011, 67)
        var rows = numbers(count * dimension, seed: 3)
        for index in 0..<dimension { rows[1_500 * dimension + index] = 0 }
        // The same direction, so an equal or nearly equal cosine, and another length.
        for index in 0..<dimension { rows[700 * dimension + index] = 2 * rows[5 * dimension + index] }
        try save(rows, dimension: dimension, to: folder.path + "/" + name)
        let collection = try EmbeddingCollection(contentsOf: folder.path + "/" + name)
        #expect((collection.count, collection.dimension) == (count, dimension))
        #expect(collection.metadata["model"] == (name == "c.npy" ? nil : "some model"))
        let queries = Embeddings(
            values: Array(rows[..<(3 * dimension)]) + numbers(dimension, seed: 9), dimension: dimension)
        for wanted in [1, 10, count + 5] {
            let found = try collection.nearest(to: queries, count: wanted)
            #expect(found.count == 4)
            for (query, matches) in found.enumerated() {
                var cosines = (0..<count).map { row -> Double in
                    var (product, own, other) = (0.0, 0.0, 0.0)
                    for index in 0..<dimension {
                        let (x, y) = (
                            Double(queries.values[query * dimension + index]), Double(rows[row * dimension + index])
                        )
                        product += x * y
                        own += x * x
                        other += y * y
                    }
                    return product / (own * other).squareRoot()
                }
                // Every row but that of zeros, in falling order, each with its own cosine.
                #expect(matches.count == min(wanted, count - 1))
                let isRight = matches.allSatisfy { abs(Double($0.cosine) - cosines[$0.row]) < 1e-6 }
                #expect(isRight)
                #expect(Set(matches.map(\.row)).count == matches.count)
                let falls = zip(matches, matches.dropFirst()).allSatisfy { $0.cosine >= $1.cosine }
                #expect(falls)
                let isNamed = matches.allSatisfy { $0.input == "picture \($0.row)" }
                #expect(isNamed)
                cosines[1_500] = -2
                let best = cosines.sorted(by: >)[matches.count - 1]
                #expect(abs(Double(matches[matches.count - 1].cosine) - best) < 1e-6)
            }
            #expect(try found == collection.nearest(to: queries, count: wanted), "the same each time")
        }
    }

    @Test("A search is a sort by cosine, equal ones by their number, cut where wanted")
    func ties() throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/c.npy"
        // Right triangles have exact cosines; few of them in many sizes are many ties.
        let triangles: [(x: Float, y: Float, length: Float)] = [
            (3, 4, 5), (4, -3, 5), (-5, 12, 13), (12, 5, 13), (-8, -15, 17), (1, 0, 1), (0, -1, 1), (-1, 0, 1),
        ]
        let drawn = numbers(5_000, seed: 11).map { triangles[Int(($0 + 1) * 4) % 8] }
        let rows = drawn.enumerated().flatMap { row, triangle in
            [triangle.x, triangle.y].map { $0 * (row % 3 == 0 ? 0.25 : 8) }
        }
        try save(rows, dimension: 2, to: path)
        let collection = try EmbeddingCollection(contentsOf: path)
        let cosines = drawn.map { $0.x / $0.length }
        let order = drawn.indices.sorted { (-cosines[$0], $0) < (-cosines[$1], $1) }
        for wanted in [1, 2, 10, 511, 513, 2_500, 4_999, 5_000, 6_000] {
            let found = try collection.nearest(to: Embeddings(values: [2, 0], dimension: 2), count: wanted)[0]
            #expect(found.map(\.row) == Array(order.prefix(wanted)), "\(wanted)")
            #expect(found.map(\.cosine) == order.prefix(wanted).map { cosines[$0] }, "\(wanted)")
        }
        #expect(try collection.nearest(to: Embeddings(values: [2, 0], dimension: 2), count: 0) == [[]])
    }

    @Test("All rows in their order cost little more than the best few")
    func ranksAll() throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/c.npy"
        let count = 150_000
        try save(numbers(2 * count, seed: 5), dimension: 2, to: path, names: Array(repeating: "a", count: count))
        let collection = try EmbeddingCollection(contentsOf: path)
        func seconds(_ wanted: Int) throws -> Double {
            let start = ContinuousClock.now
            let found = try collection.nearest(to: Embeddings(values: [0.6, 0.8], dimension: 2), count: wanted)
            #expect(found[0].count == wanted)
            return (ContinuousClock.now - start) / .seconds(1)
        }
        // Most of it is the names. Shifting what is smaller for each row would take fifty times as long.
        let (some, all) = (try seconds(count / 100), try seconds(count))
        print("150000 rows: the best 1500 in \(some) s, all in \(all) s")
        #expect(all < 200 * some, "\(all) s, and \(some) s for the best hundredth")
    }

    @Test("Rows without names go by their numbers; halves are read")
    func halves() throws {
        let folder = try TemporaryFolder()
        let header = "{'descr': '<f2', 'fortran_order': False, 'shape': (3, 2), }"
        var bytes: [UInt8] = [0x93] + Array("NUMPY".utf8) + [1, 0, 118, 0]
        bytes += Array(header.utf8) + [UInt8](repeating: 0x20, count: 117 - header.utf8.count) + [0x0A]
        for value: Float16 in [1, 0, 0, 2, .infinity, 1] {
            bytes += withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) }
        }
        let path = folder.path + "/h.npy"
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        let found = try EmbeddingCollection(contentsOf: path).nearest(
            to: Embeddings(values: [0, -1], dimension: 2), count: 5)
        #expect(found.map { $0.map(\.row) } == [[0, 1]])
        #expect(found.map { $0.map(\.input) } == [[path + "[0]", path + "[1]"]])
        #expect(found.map { $0.map(\.cosine) } == [[0, -1]])
    }

    @Test("What is no collection is refused in a sentence")
    func refuses() throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/c.safetensors"
        try save([1, 2, 3, 4], dimension: 2, to: path)
        #expect(throws: CLIPError.self) {
            try EmbeddingCollection(contentsOf: path).nearest(to: Embeddings(values: [1], dimension: 1), count: 1)
        }
        try folder.write("c.safetensors.inputs.jsonl", "{\"row\": 0, \"input\": \"a\", \"kind\": \"image\"}\n")
        for name in ["c.safetensors", "c.jsonl", "none.npy"] {
            do {
                _ = try EmbeddingCollection(contentsOf: folder.path + "/" + name)
                Issue.record("\(name) was opened")
            } catch let error as CLIPError {
                #expect(error.code == .input)
                #expect(error.description.contains(name) && error.description.hasSuffix("."))
            }
        }
    }

    private static let samples = repository + "/tools/samples"

    @Test("An update computes what changed, keeps what did not, and drops what is gone")
    func updates() throws {
        let folder = try TemporaryFolder()
        let files = FileManager.default
        let pictures = folder.path + "/pictures"
        try files.createDirectory(atPath: pictures, withIntermediateDirectories: true)
        let samples = try files.contentsOfDirectory(atPath: Self.samples).sorted()
        try #require(samples.count >= 5)
        func put(_ sample: Int, as name: String) throws {
            try? files.removeItem(atPath: pictures + "/" + name)
            try files.copyItem(atPath: Self.samples + "/" + samples[sample], toPath: pictures + "/" + name)
        }
        for (index, name) in ["b.jpg", "c.jpg", "d.jpg"].enumerated() { try put(index, as: name) }
        let output = folder.path + "/c.safetensors"
        let clip = try CLIP.load(device: .cpu, towers: .image)
        func update(exif: Bool = false) throws -> CollectionUpdate {
            var options = PreparationOptions()
            options.followsEXIF = exif
            return try CollectionUpdate(
                path: output, inputs: EmbeddingInputs(paths: [pictures]), model: "m", settings: [("precision", "fp32")],
                options: options)
        }
        /// Whether the file is what embedding everything anew writes, times and sizes aside.
        func isRight() throws -> Bool {
            let collection = try EmbeddingCollection(contentsOf: output)
            var (row, same) = (0, true)
            try clip.embed(EmbeddingInputs(paths: [pictures])) { result in
                guard case .success(let expected) = result.embedding else { return }
                let query = Embeddings(values: Array(expected), dimension: expected.count)
                let match = try collection.nearest(to: query, count: 1)[0][0]
                same = same && match.input == result.name && match.row == row && match.cosine > 0.999_999
                row += 1
            }
            return same && row == collection.count
        }

        #expect(try update().isUpToDate() == false)
        var change = try update().run(clip)
        #expect((change.added, change.kept, change.removed, change.failed) == (3, 0, 0, 0))
        #expect(try update().isUpToDate() == true)
        #expect(try isRight())

        // One before the first, one in the place of another, one gone, one that is no picture.
        try put(3, as: "a.jpg")
        try put(4, as: "c.jpg")
        try files.removeItem(atPath: pictures + "/d.jpg")
        try Data("no picture".utf8).write(to: URL(fileURLWithPath: pictures + "/e.jpg"))
        #expect(try update().isUpToDate() == false)
        change = try update().run(clip)
        #expect((change.added, change.kept, change.removed, change.failed) == (2, 1, 2, 1))
        #expect(try isRight())
        // What failed is tried again.
        #expect(try update().isUpToDate() == false)
        try files.removeItem(atPath: pictures + "/e.jpg")
        #expect(try update().isUpToDate() == true)

        // Interrupted before the first input: the rows are still there.
        try put(1, as: "f.jpg")
        change = try update().run(clip, shouldStop: { true })
        #expect(change.isInterrupted)
        #expect((change.added, change.kept, change.removed) == (0, 3, 0))
        change = try update().run(clip)
        #expect((change.added, change.kept, change.removed) == (1, 3, 0))
        #expect(try isRight())

        // Other settings.
        #expect(try update().reasonToStartAnew == nil)
        #expect(try update(exif: true).reasonToStartAnew?.contains("exif false, not true") == true)
        let sized = try CollectionUpdate(
            path: output, inputs: EmbeddingInputs(paths: [pictures]), model: "m",
            settings: [("precision", "fp32"), ("image-size", "64")])
        #expect(sized.reasonToStartAnew?.contains("image-size of the model's own, not 64") == true)
        _ = try sized.run(clip)
        #expect(try update().reasonToStartAnew?.contains("image-size 64, not the model's own") == true)
        change = try update(exif: true).run(clip)
        #expect((change.added, change.kept) == (4, 0))
        #expect(throws: CLIPError.self) {
            try CollectionUpdate(path: folder.path + "/c.npy", inputs: EmbeddingInputs(paths: [pictures]), model: "m")
        }
    }

    @Test(
        "What cannot be read keeps its rows, interrupted updates name nothing twice, and old times and twins are known")
    func endurance() throws {
        let folder = try TemporaryFolder()
        let files = FileManager.default
        let (one, two) = (folder.path + "/one", folder.path + "/two")
        let changed = (1...20).map { "\(10 + $0)" }
        for (place, names) in [(one, changed), (two, ["d"])] {
            try files.createDirectory(atPath: place, withIntermediateDirectories: true)
            for name in names {
                try files.copyItem(atPath: Self.samples + "/coffee.jpg", toPath: "\(place)/\(name).jpg")
            }
        }
        try files.setAttributes([.modificationDate: Date(timeIntervalSince1970: -1.5e8)], ofItemAtPath: two + "/d.jpg")
        let output = folder.path + "/c.safetensors"
        let clip = try CLIP.load(device: .cpu, towers: .image)
        func update(_ paths: [String]) throws -> CollectionUpdate {
            try CollectionUpdate(path: output, inputs: EmbeddingInputs(paths: paths), model: "m")
        }
        func names() throws -> [String] {
            let collection = try EmbeddingCollection(contentsOf: output)
            return try (0..<collection.count).map(collection.input)
        }
        // The same file twice has two rows.
        let paths = [one, two, two + "/d.jpg"]
        var change = try update(paths).run(clip)
        #expect(change.added == 22)
        #expect(try update(paths).isUpToDate() == true)
        change = try update(paths).run(clip)
        #expect((change.added, change.kept, change.removed) == (0, 22, 0))

        // A disk that is not there.
        let before = try names()
        try files.moveItem(atPath: one, toPath: folder.path + "/away")
        change = try update(paths).run(clip)
        #expect((change.added, change.kept, change.removed, change.failed) == (0, 22, 0, 1))
        #expect(try names() == before)
        try files.createDirectory(atPath: one, withIntermediateDirectories: true)
        change = try update(paths).run(clip)
        #expect((change.kept, change.removed, change.failed) == (22, 0, 1))
        try files.removeItem(atPath: one)
        try files.moveItem(atPath: folder.path + "/away", toPath: one)

        // All changed, and an end after the first of them: it is not there twice, nor computed again.
        for name in changed {
            try files.setAttributes(
                [.modificationDate: Date(timeIntervalSince1970: 7e8)], ofItemAtPath: "\(one)/\(name).jpg")
        }
        var seen = 0
        change = try update(paths).run(clip, batchSize: 1, shouldStop: { seen > 0 }, onResult: { _ in seen += 1 })
        #expect(change.isInterrupted && change.added == seen && seen < changed.count)
        #expect(try names().sorted() == before.sorted())
        change = try update(paths).run(clip)
        #expect((change.added, change.kept) == (changed.count - seen, 2 + seen))
        #expect(try names() == before)
    }

    @Test("Members of an archive and pictures of a tensor keep their rows while the file is as it was")
    func archives() throws {
        let folder = try TemporaryFolder()
        func sample(_ name: String) throws -> [UInt8] {
            Array(try Data(contentsOf: URL(fileURLWithPath: Self.samples + "/" + name)))
        }
        let (star, heart, circle) = (
            try sample("white-star.png"), try sample("blue-heart.png"), try sample("red-circle.png")
        )
        let archive = try folder.write(
            "a.tar", tar([("1.png", star), ("1.txt", [1]), ("2.png", [7]), ("3.png", heart)]))
        let clip = try CLIP.load(device: .cpu, towers: .image)
        let tensor = folder.path + "/p.npy"
        let side = clip.information.imageSize
        let pixels = try EmbeddingWriter(path: tensor, format: .npy, shape: [3, side, side])
        for index in 0..<2 {
            try pixels.append(numbers(3 * side * side, seed: UInt64(index))[...], input: "\(index)", kind: .image)
        }
        try pixels.finish()
        let output = folder.path + "/c.safetensors"
        func update() throws -> CollectionUpdate {
            try CollectionUpdate(
                path: output, inputs: EmbeddingInputs(paths: [archive, tensor, Self.samples + "/coffee.jpg"]),
                model: "m")
        }
        func inputs() throws -> [String] {
            let collection = try EmbeddingCollection(contentsOf: output)
            return try (0..<collection.count).map(collection.input)
        }
        var change = try update().run(clip)
        #expect((change.added, change.kept, change.removed, change.failed) == (5, 0, 0, 1))
        let names = [
            archive + "/1.png", archive + "/3.png", tensor + "[0]", tensor + "[1]", Self.samples + "/coffee.jpg",
        ]
        let rows = try EmbeddingCollection(contentsOf: output).rows(0..<5)
        #expect(try inputs() == names)

        // What failed is tried again, and nothing else.
        var seen: [String] = []
        change = try update().run(clip, onResult: { seen.append($0.name) })
        #expect((change.added, change.kept, change.removed, change.failed) == (0, 5, 0, 1))
        #expect(seen == [archive + "/2.png"])
        #expect(try inputs() == names && EmbeddingCollection(contentsOf: output).rows(0..<5) == rows)

        // An archive of pictures whose rows are all known is not one without pictures.
        try folder.write("a.tar", tar([("1.png", star), ("3.png", circle)]))
        change = try update().run(clip)
        #expect((change.added, change.kept, change.removed, change.failed) == (2, 3, 2, 0))
        seen = []
        change = try update().run(clip, onResult: { seen.append($0.name) })
        #expect((change.added, change.kept, change.removed, change.failed) == (0, 5, 0, 0) && seen.isEmpty)
        #expect(try inputs() == names)
    }
}
