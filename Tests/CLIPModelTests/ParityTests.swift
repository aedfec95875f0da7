import BackendTesting
import CLIPCompute
import CLIPModel
import Foundation
import Testing

@Suite("parity with transformers") struct ParityTests {
    static let detailed = [Fixture("tiny-quick-gelu"), Fixture("tiny-gelu")]
    /// Under a causal mask; with a class token behind it; without one.
    static let beginningAlike =
        detailed
        + ["open-clip-eos", "open-clip-causal-last", "open-clip-coca", "siglip"].map { Fixture($0) }
    static let all =
        detailed + [
            Fixture("tiny-quick-gelu-sharded", expected: "tiny-quick-gelu"), Fixture("tiny-quick-gelu-fp16"),
            Fixture("tiny-quick-gelu-bf16"), Fixture("siglip"), Fixture("metaclip2"),
        ]

    /// The inputs of the reduced-precision fixtures are those of `tiny-quick-gelu`.
    private func inputs(_ fixture: Fixture) -> Fixture {
        fixture.name.hasPrefix("tiny-quick-gelu") ? Self.detailed[0] : fixture
    }

    @Test("block by block, the first that differs is named", arguments: ParityDevice.all, detailed)
    func blocks(_ device: ParityDevice, _ fixture: Fixture) throws {
        let model = try ModelCheckpoint.open(path: fixture.folder)
        let encoder = try device.encoder(model, .both)

        func check(_ tower: String, width: Int, layers: Int, lastRows: [Int], _ run: (Observer) throws -> [Float])
            throws
        {
            var seen: [(name: String, rows: [Float])] = []
            let features = try run(Observer { seen.append(($0, $1)) })
            var expected = [("embeddings", "embeddings")]
            if tower == "vision" { expected.append(("pre-norm", "pre_layrnorm")) }
            expected += (0..<layers).map { ("block \($0)", "block.\($0)") }
            #expect(seen.map(\.name) == expected.map(\.0))
            for ((name, rows), (_, key)) in zip(seen, expected) {
                var reference = try fixture.floats("\(tower).\(key)")
                if name == "block \(layers - 1)" {
                    reference = lastRows.flatMap { reference[($0 * width)..<(($0 + 1) * width)] }
                }
                let error = centredError(rows, reference, columns: width)
                // Later blocks would only repeat what went wrong in this one.
                try #require(error <= device.tolerance, "\(tower) \(name) differs by \(error)")
            }
            let reference = try fixture.floats("\(tower).features")
            let error = centredError(features, reference, columns: model.configuration.embeddingWidth)
            #expect(error <= device.tolerance, "\(tower) features differ by \(error)")
            print("\(device.name), \(fixture.name): \(tower) features differ by \(error)")
        }

        let vision = try #require(model.configuration.vision.visionTransformer)
        try fixture.withPixels { pixels in
            try check(
                "vision", width: vision.transformer.width, layers: vision.transformer.layers,
                lastRows: (0..<pixels.count).map { $0 * vision.rowsPerPicture }
            ) { try encoder.encodeImages(pixels, observer: $0) }
        }
        let text = model.configuration.text
        var end = 0
        let lastRows = try fixture.lengths().map { length -> Int in
            end += length
            return end - 1
        }
        try check("text", width: text.transformer.width, layers: text.transformer.layers, lastRows: lastRows) {
            try encoder.encodeTexts(fixture.ids(), observer: $0)
        }
    }

    @Test("features, in every form of file", arguments: ParityDevice.all, all)
    func features(_ device: ParityDevice, _ fixture: Fixture) throws {
        let model = try ModelCheckpoint.open(path: fixture.folder)
        let encoder = try device.encoder(model, .both)
        let columns = model.configuration.embeddingWidth
        let image = try inputs(fixture).withPixels { try encoder.encodeImages($0) }
        let text = try encoder.encodeTexts(inputs(fixture).ids())
        let errors = (
            centredError(image, try fixture.floats("vision.features"), columns: columns),
            centredError(text, try fixture.floats("text.features"), columns: columns)
        )
        print("\(device.name), \(fixture.name): image \(errors.0), text \(errors.1)")
        #expect(errors.0 <= device.tolerance && errors.1 <= device.tolerance)
    }

    @Test("a reference with one thing wrong is told apart", arguments: ParityDevice.all, detailed)
    func broken(_ device: ParityDevice, _ fixture: Fixture) throws {
        let model = try ModelCheckpoint.open(path: fixture.folder)
        let encoder = try device.encoder(model, .both)
        let columns = model.configuration.embeddingWidth
        let image = try fixture.withPixels { try encoder.encodeImages($0) }
        let text = try encoder.encodeTexts(fixture.ids())
        for name in ["bias_dropped", "norms_swapped", "activation_changed"] {
            let error = centredError(image, try fixture.floats("broken.\(name).vision_features"), columns: columns)
            #expect(error > 3 * device.tolerance, "\(name) is within \(error)")
        }
        for name in ["bias_dropped", "norms_swapped", "activation_changed", "mask_off"] {
            let error = centredError(text, try fixture.floats("broken.\(name).text_features"), columns: columns)
            #expect(error > 3 * device.tolerance, "\(name) is within \(error)")
        }
    }

    @Test(
        "logits are cosines times exp(logit_scale), and logit_bias", arguments: ParityDevice.all,
        detailed + [Fixture("siglip"), Fixture("metaclip2")])
    func logits(_ device: ParityDevice, _ fixture: Fixture) throws {
        let model = try ModelCheckpoint.open(path: fixture.folder)
        let encoder = try device.encoder(model, .both)
        let columns = model.configuration.embeddingWidth
        let image = try fixture.withPixels { try encoder.encodeImages($0, unitLength: true) }
        let text = try encoder.encodeTexts(fixture.ids(), unitLength: true)
        let expected = try fixture.floats("logits_per_image")
        let texts = text.count / columns
        for row in 0..<(image.count / columns) {
            for column in 0..<texts {
                let cosine = (0..<columns).reduce(0.0) {
                    $0 + Double(image[row * columns + $1]) * Double(text[column * columns + $1])
                }
                let logit = cosine * exp(Double(model.logitScale)) + Double(model.logitBias ?? 0)
                #expect(abs(logit - Double(expected[row * texts + column])) <= 20 * device.tolerance)
            }
        }
    }

    @Test("bytes do not depend on batch, neighbours or towers", arguments: ParityDevice.all, detailed)
    func sameBytes(_ device: ParityDevice, _ fixture: Fixture) throws {
        let model = try ModelCheckpoint.open(path: fixture.folder)
        let encoder = try device.encoder(model, .both)
        let columns = model.configuration.embeddingWidth
        let alone = try fixture.withPixels { try encoder.encodeImages($0) }
        let many = try fixture.withPixels(repeated: 7) { try device.encoder(model, .image).encodeImages($0) }
        #expect(many == [[Float]](repeating: alone, count: 7).flatMap(\.self))

        let ids = try fixture.ids()
        let together = try encoder.encodeTexts(ids)
        let separate = try ids.map { try encoder.encodeTexts([$0]) }
        #expect(together == separate.flatMap(\.self))
        let shuffled = try device.encoder(model, .text).encodeTexts(ids.reversed() + ids)
        #expect(shuffled == separate.reversed().flatMap(\.self) + together)
        #expect(together.count == ids.count * columns)
    }

    @Test("sentences that begin alike get the bytes that each gets alone", arguments: ParityDevice.all, beginningAlike)
    func beginningsInCommon(_ device: ParityDevice, _ fixture: Fixture) throws {
        let encoder = try device.encoder(ModelCheckpoint.open(path: fixture.folder), .text)
        let sentences = try fixture.sentencesThatBeginAlike()
        let together = try encoder.encodeTexts(sentences)
        #expect(try together == sentences.flatMap { try encoder.encodeTexts([$0]) })
    }

    @Test("a pass takes as many pictures as have the rows that the backend prefers at the model's width")
    func passes() throws {
        let fixture = Self.detailed[0]
        let model = try ModelCheckpoint.open(path: fixture.folder)
        let vision = try #require(model.configuration.vision.visionTransformer)
        try #require(vision.rowsPerPicture != vision.transformer.width)
        let backend = ReferenceBackend()
        backend.rowsOfAPass = { $0 == vision.transformer.width ? 2 * vision.rowsPerPicture + 1 : 1 }
        let encoder = try CLIPEncoder(model, backend: backend, towers: .image)
        #expect(encoder.preferredImages == 2)
        try fixture.withPixels(repeated: 3) { pixels in
            let before = backend.passCount
            _ = try encoder.encodeImages(pixels)
            #expect(backend.passCount - before == (pixels.count + 1) / 2)
        }
    }

    @Test("where the device has no memory for a pass, it goes in parts, and those after it no larger")
    func littleMemory() throws {
        let fixture = Self.detailed[0]
        let model = try ModelCheckpoint.open(path: fixture.folder)
        let vision = try #require(model.configuration.vision.visionTransformer)
        let backend = ReferenceBackend()
        backend.rowsOfAPass = { _ in 5 * vision.rowsPerPicture }
        let encoder = try CLIPEncoder(model, backend: backend, towers: .both)
        let ids = try fixture.ids()
        let expected = try encoder.encodeTexts(ids)
        try fixture.withPixels(repeated: 6) { pixels in
            let pixels = pixels.pictures(0..<10)
            let rows = try encoder.encodeImages(pixels)
            backend.rowsInMemory = 2 * vision.rowsPerPicture
            let before = backend.passCount
            #expect(try encoder.encodeImages(pixels) == rows)
            // 5 fail, of which 3 are too many by now: 2, 1 and 2; then 2, 1 and 2 at once.
            #expect(backend.passCount - before == 1 + 3 + 3)
            backend.rowsInMemory = vision.rowsPerPicture - 1
            #expect(throws: BackendError.self) { try encoder.encodeImages(pixels) }
        }
        backend.rowsOfAPass = { _ in 10_000 }
        backend.rowsInMemory = ids.map(\.count).max() ?? 0
        #expect(try encoder.encodeTexts(ids) == expected)
        backend.rowsInMemory = 1
        #expect(throws: BackendError.self) { try encoder.encodeTexts(ids) }
    }

    @Test("passes beside each other have equal shares, or the inputs go through one after the other")
    func shares() throws {
        let fixture = Self.detailed[0]
        let model = try ModelCheckpoint.open(path: fixture.folder)
        let vision = try #require(model.configuration.vision.visionTransformer)
        let backend = ReferenceBackend()
        backend.rowsOfAPass = { _ in 4 * vision.rowsPerPicture }
        backend.passesBesideEachOther = { $0 >= 4 * vision.rowsPerPicture ? 2 : 1 }
        let encoder = try CLIPEncoder(model, backend: backend, towers: .both)
        /// Whether each pass was begun alone.
        func begun(_ body: () throws -> Void) rethrows -> [Bool] {
            let before = backend.begunAlone.count
            try body()
            return Array(backend.begunAlone[before...])
        }
        try fixture.withPixels(repeated: 6) { pixels in
            try #require(pixels.count >= 12)
            let rows = try encoder.encodeImages(pixels)
            let width = rows.count / pixels.count
            for (count, alone) in [
                (1, [true]), (3, [true]), (4, [false, false]), (8, [Bool](repeating: false, count: 4)),
                // One of two lanes would have a picture more.
                (5, [true, true]), (7, [true, true]), (12, [Bool](repeating: false, count: 6)),
            ] {
                let passes = try begun {
                    let part = try encoder.encodeImages(pixels.pictures(0..<count))
                    #expect(part.elementsEqual(rows[..<(count * width)]))
                }
                #expect(passes == alone, "\(count) pictures")
            }
        }
        let ids = try fixture.ids()
        let many = (0..<40).map { ids[$0 % ids.count] }
        let one = try encoder.encodeTexts([many[0]])
        backend.rowsOfAPass = { _ in 10_000 }
        backend.passesBesideEachOther = { _ in 3 }
        var rows: [Float] = []
        #expect(try begun { rows = try encoder.encodeTexts(many) } == [false, false, false])
        #expect(rows.starts(with: one) && rows.count == many.count * one.count)
    }

    @Test("jobs may be finished in any order", arguments: ParityDevice.all)
    func jobs(_ device: ParityDevice) throws {
        let fixture = Self.detailed[0]
        let encoder = try device.encoder(ModelCheckpoint.open(path: fixture.folder), .both)
        let ids = try fixture.ids()
        let first = try encoder.beginTexts(ids, unitLength: false, alone: true)
        let second = try fixture.withPixels(repeated: 5) {
            try encoder.beginImages($0, unitLength: false, alone: false)
        }
        let third = try encoder.beginTexts([ids[1]], unitLength: false, alone: false)
        #expect(try encoder.finish(third) == encoder.encodeTexts([ids[1]]))
        #expect(try encoder.finish(second) == fixture.withPixels(repeated: 5) { try encoder.encodeImages($0) })
        #expect(try encoder.finish(first) == encoder.encodeTexts(ids))
        #expect(throws: ModelError.self) { try encoder.finish(first) }
        #expect(try encoder.encodeTexts([]).isEmpty)
    }

    @Test("inputs that do not fit are refused by a sentence") func inputs() throws {
        let fixture = Self.detailed[0]
        let device = try #require(ParityDevice.all.first)
        let model = try ModelCheckpoint.open(path: fixture.folder)
        let encoder = try device.encoder(model, .both)
        let context = model.configuration.text.contextLength
        func message(_ body: () throws -> Void) -> String {
            do { try body() } catch { return "\(error)" }
            return "accepted"
        }
        #expect(message { _ = try encoder.encodeTexts([[]]) }.contains("text 0 has no tokens"))
        #expect(message { _ = try encoder.encodeTexts([[1], [-1]]) }.contains("text 1 holds the token -1"))
        #expect(message { _ = try encoder.encodeTexts([[1_000_000, 259]]) }.contains("outside the model's vocabulary"))
        #expect(
            message { _ = try encoder.encodeTexts([[Int32](repeating: 1, count: context + 1)]) }
                .contains("more than the model's context"))
        let size = model.configuration.vision.imageSize + 1
        let floats = [Float](repeating: 0, count: size * size * 3)
        floats.withUnsafeBufferPointer { buffer in
            let pixels = Pixels(.floats(buffer), count: 1, height: size, width: size)
            #expect(message { _ = try encoder.encodeImages(pixels) }.contains("pictures of \(size)x\(size) pixels"))
        }
        #expect(
            message {
                _ = try device.encoder(model, .text).encodeImages(
                    Pixels(.bytes(.init(start: nil, count: 0)), count: 0, height: 1, width: 1))
            }
            .contains("was not loaded"))
        // The encoder goes on after an error.
        #expect(try encoder.encodeTexts(fixture.ids()).count == 5 * model.configuration.embeddingWidth)
    }
}
