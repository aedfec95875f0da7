import CLIPCompute
import CLIPModel
import Checkpoints
// Parity with OpenAI's and open_clip's own classes, and what is refused. tools/make_open_clip_fixtures.py makes the files.
import Foundation
import TestSupport
import Testing

@Suite("parity with OpenAI's and open_clip's models") struct OpenCLIPTests {
    /// A checkpoint, the folder of its expected values, and what the caller must say about it.
    struct Case: CustomTestStringConvertible, Sendable {
        var path: String
        var expected: String
        var options = ModelOptions()

        var testDescription: String { path }
        var fullPath: String { Fixture.folder + "/" + path }
        var fixture: Fixture { Fixture(expected) }
    }

    static let cases: [Case] =
        [
            Case(path: "openai-vit/archive.pt", expected: "openai-vit"),
            Case(
                path: "openai-vit/training.pt", expected: "openai-vit", options: ModelOptions(activation: .quickGELU)),
            Case(path: "openai-resnet/archive.pt", expected: "openai-resnet"),
        ]
        + [
            "plain", "scaled", "mean-after", "mean-before", "eos", "causal-last", "resnet", "siglip", "siglip2", "coca",
            "coca-wide", "xlm-roberta", "xlm-roberta-cls", "mt5", "mt5-cls",
        ].map {
            Case(path: "open-clip-\($0)", expected: "open-clip-\($0)")
        }

    private func errors(
        _ model: ModelCheckpoint, _ fixture: Fixture, _ device: ParityDevice
    ) throws -> (image: Double, text: Double) {
        let encoder = try device.encoder(model, .both)
        let columns = model.configuration.embeddingWidth
        let image = try fixture.withPixels { try encoder.encodeImages($0) }
        let text = try encoder.encodeTexts(fixture.ids())
        return (
            centredError(image, try fixture.floats("vision.features"), columns: columns),
            centredError(text, try fixture.floats("text.features"), columns: columns)
        )
    }

    @Test("features", arguments: ParityDevice.all, cases)
    func features(_ device: ParityDevice, _ checkpoint: Case) throws {
        let model = try ModelCheckpoint.open(path: checkpoint.fullPath, options: checkpoint.options)
        let errors = try errors(model, checkpoint.fixture, device)
        print("\(device.name), \(checkpoint.path): image \(errors.image), text \(errors.text)")
        #expect(errors.image <= device.tolerance && errors.text <= device.tolerance)
    }

    @Test("bytes do not depend on batch or neighbours", arguments: ParityDevice.all, cases)
    func sameBytes(_ device: ParityDevice, _ checkpoint: Case) throws {
        let fixture = checkpoint.fixture
        let model = try ModelCheckpoint.open(path: checkpoint.fullPath, options: checkpoint.options)
        let encoder = try device.encoder(model, .both)
        let alone = try fixture.withPixels { try encoder.encodeImages($0) }
        let many = try fixture.withPixels(repeated: 3) { try encoder.encodeImages($0) }
        #expect(many == [[Float]](repeating: alone, count: 3).flatMap(\.self))
        // Sentences without what stands behind their end are the same sentences.
        let ids = try fixture.ids()
        let together = try encoder.encodeTexts(ids)
        let cut = try zip(ids, fixture.lengths()).flatMap { try encoder.encodeTexts([Array($0.prefix($1))]) }
        #expect(together == cut)
    }

    @Test(
        "positions for pictures and texts of other sizes", arguments: ParityDevice.all,
        ["open-clip-plain", "open-clip-siglip", "tiny-quick-gelu", "siglip"])
    func resized(_ device: ParityDevice, _ name: String) throws {
        for (size, context) in [(42, 9), (21, 20)] {
            let folder = Fixture.folder + "/" + name
            var options = ModelOptions(imageSize: size)
            let model: ModelCheckpoint
            if name == "open-clip-plain" {
                // Both as the configuration says it: this is what a folder of open_clip's may hold.
                options.imageSize = nil
                let text = try String(contentsOf: URL(filePath: folder + "/open_clip_config.json"), encoding: .utf8)
                    .replacing("\"image_size\": 28", with: "\"image_size\": \(size)")
                    .replacing("\"context_length\": 13", with: "\"context_length\": \(context)")
                model = try ModelCheckpoint(
                    weights: Safetensors.open(path: folder + "/open_clip_model.safetensors"),
                    openCLIPConfig: Array(text.utf8).withUnsafeBytes { try JSON(parsing: $0) }, options: options)
            } else {
                model = try ModelCheckpoint.open(path: folder, options: options)
            }
            #expect(model.configuration.vision.imageSize == size)
            #expect(model.configuration.preprocessing.cropSize == size)
            #expect(model.configuration.facts.contains { $0.name == "positions" && $0.value.contains("resized") })
            let errors = try errors(model, Fixture("\(name)-\(size)"), device)
            print("\(device.name), \(name) at \(size) pixels: image \(errors.image), text \(errors.text)")
            #expect(errors.image <= device.tolerance && errors.text <= device.tolerance)
        }
    }

    @Test("another activation gives other features") func wrongActivation() throws {
        let device = try #require(ParityDevice.all.first)
        let model = try ModelCheckpoint.open(
            path: Fixture.folder + "/openai-vit/training.pt", options: ModelOptions(activation: .gelu))
        let errors = try errors(model, Fixture("openai-vit"), device)
        #expect(errors.image > 1e-3 && errors.text > 1e-3)
    }

    @Test("a sentence with padding before its end has no distances for mT5; XLM-RoBERTa passes over it")
    func paddingInside() throws {
        func text(_ name: String) throws -> TextConfiguration {
            try ModelCheckpoint.open(path: Fixture.folder + "/open-clip-" + name).configuration.text
        }
        let (relative, learned) = (try text("mt5"), try text("xlm-roberta"))
        try relative.check([5, 7, 1, 0, 0], name: "A")
        let inside = #expect(throws: ModelError.self) { try relative.check([5, 0, 7, 1], name: "A") }
        #expect(
            inside?.description
                == "A holds the padding token 0 before its end, where distances between tokens cannot be told")
        let nothing = #expect(throws: ModelError.self) { try relative.check([0, 0], name: "A") }
        #expect(nothing?.description == "A is nothing but padding")
        try learned.check([0, 5, learned.paddingID, 7, 2], name: "A")
    }

    @Test("what a file says, and what it does not") func facts() throws {
        let archive = try ModelCheckpoint.open(path: Fixture.folder + "/openai-vit/archive.pt")
        let fact = try #require(archive.configuration.facts.first { $0.name == "activation" })
        #expect(fact.value == "quickgelu" && fact.source.contains("class"))
        #expect(archive.configuration.tokenizer == .openAI && archive.configuration.text.contextLength == 12)
        let scaled = try ModelCheckpoint.open(path: Fixture.folder + "/open-clip-scaled").configuration
        #expect(scaled.preprocessing.resize == .squash(28) && scaled.preprocessing.interpolation == .bilinear)
        #expect(scaled.preprocessing.normalization.deviation == [0.2, 0.3, 0.4] && scaled.tokenizer == .openCLIP)
        let eos = try ModelCheckpoint.open(path: Fixture.folder + "/open-clip-eos").configuration
        #expect(eos.tokenizer == .other("some/tokenizer") && eos.text.pooling == .first(2))

        func sentence(_ path: String, _ activation: Activation?) -> String? {
            do {
                _ = try ModelCheckpoint.open(
                    path: Fixture.folder + "/" + path, options: ModelOptions(activation: activation))
                return nil
            } catch {
                return "\(error)"
            }
        }
        #expect(sentence("openai-vit/training.pt", nil)?.contains("--activation quickgelu") == true)
        #expect(sentence("openai-vit/archive.pt", .gelu)?.contains("says that the activation is quickgelu") == true)
        #expect(sentence("open-clip-plain", .quickGELU)?.contains("gelu") == true)
        #expect(sentence("open-clip-plain", .gelu) == nil)
        #expect(sentence("tiny-gelu/model.safetensors", .gelu)?.contains("transformers' names") == true)
    }

    @Test(
        "configurations that contradict the weights, or ask for what is not there, are refused by name",
        arguments: [
            (#""layers": 2"#, #""layers": 3"#, "vision_cfg.layers says 3"),
            (#""width": 48"#, #""width": 52"#, "vision_cfg.width says 52"),
            (#""heads": 5"#, #""heads": 7"#, "7 heads"),
            (#""vocab_size": 130"#, #""vocab_size": 131"#, "vocabulary of the weights is 130"),
            (#""patch_size": 7"#, #""timm_model_name": "vit_x", "patch_size": 7"#, "\"vit_x\""),
            (#""heads": 5"#, #""heads": 5, "hf_model_name": "xlm""#, "\"xlm\""),
            (#""heads": 5"#, #""heads": 5, "hf_model_name": "xlm-roberta-base""#, "word_embeddings"),
            (#""heads": 5"#, #""heads": 5, "embed_cls": true"#, "cls_emb"),
            (#""head_width": 16"#, #""head_width": 16, "attentional_pool": "cascade""#, "\"cascade\""),
            (#""head_width": 16"#, #""head_width": 16, "attentional_pool": true"#, "visual.attn_pool.query"),
            (#""heads": 5"#, #""heads": 5, "rotary": true"#, "\"rotary\", whose meaning is not known"),
            (#""heads": 5"#, #""heads": 5, "proj_bias": true"#, "text_projection is a matrix"),
            (#""head_width": 16"#, #""head_width": 16, "ls_init_value": 0.1"#, "ls_1.gamma"),
            (#""head_width": 16"#, #""head_width": 16, "no_ln_pre": true"#, "unexpected  visual.ln_pre"),
            (#""embed_dim": 24"#, #""embed_dim": 25"#, "visual.proj"),
            ("\"preprocess_cfg\": {", "\"preprocess_cfg\": {\"mode\": \"L\"", "preprocess_cfg.mode"),
        ])
    func refused(_ old: String, _ new: String, _ words: String) throws {
        let source = URL(filePath: Fixture.folder + "/open-clip-plain")
        let text = try String(contentsOf: source.appending(path: "open_clip_config.json"), encoding: .utf8)
        #expect(text.contains(old))
        let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let first = try #require(text.range(of: old))
        try text.replacingCharacters(in: first, with: new)
            .write(to: folder.appending(path: "open_clip_config.json"), atomically: true, encoding: .utf8)
        try FileManager.default.copyItem(
            at: source.appending(path: "open_clip_model.safetensors"),
            to: folder.appending(path: "open_clip_model.safetensors"))
        var sentence = "accepted"
        do { _ = try ModelCheckpoint.open(path: folder.path()) } catch { sentence = "\(error)" }
        #expect(sentence.contains(words), "\(sentence)")
    }

    @Test("weights in several files are found by their index") func sharded() throws {
        let source = URL(filePath: Fixture.folder + "/open-clip-plain")
        let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try FileManager.default.copyItem(
            at: source.appending(path: "open_clip_config.json"), to: folder.appending(path: "open_clip_config.json"))
        let whole = try Checkpoint.open(path: source.appending(path: "open_clip_model.safetensors").path())
        var map: [String] = []
        for (part, parity) in [("1.safetensors", 0), ("2.safetensors", 1)] {
            let tensors = whole.tensors.enumerated().filter { $0.offset % 2 == parity }.map(\.element)
            map += tensors.map { "\"\($0.name)\": \"\(part)\"" }
            try Safetensors.write(tensors, metadata: [], to: OutputFile(path: folder.appending(path: part).path()))
        }
        let index = folder.appending(path: "open_clip_model.safetensors.index.json")
        try Data("{\"weight_map\": {\(map.joined(separator: ","))}}".utf8).write(to: index)
        #expect(try ModelCheckpoint.open(path: folder.path()).weights.tensors.count == whole.tensors.count)
        #expect(try Checkpoint.open(path: index.path()).tensors.count == whole.tensors.count)
    }

    @Test("damaged configurations and weights are read or refused") func damage() throws {
        let cases = OpeningTests.cases
        let zeros = FloatMemory(count: 1 << 22)
        // SplitMix64 (Steele, Lea, Flood 2014): the same numbers every time.
        var state: UInt64 = 11 &* OpeningTests.seed
        func random(_ limit: Int) -> Int {
            state &+= 0x9E37_79B9_7F4A_7C15
            var z = state
            z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
            z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
            return Int((z ^ (z >> 31)) % UInt64(limit))
        }
        let numbers = [0, 1, 2, 3, 64, 65, 1280, 1 << 24, (1 << 24) + 1, 1 << 40, .max]
        let pieces = [
            "0", "-1", "9223372036854775807", "1e308", "null", "[28,28]", "{}", "true", "\"avg\"", "16777216", "1",
        ]
        func damaged(_ text: String) -> [UInt8] {
            var bytes = Array(text.utf8)
            for _ in 0...random(2) {
                let digits = bytes.indices.filter { (0x30...0x39).contains(bytes[$0]) }
                if random(4) > 0, !digits.isEmpty {
                    let value = digits[random(digits.count)]
                    var end = value
                    while end < bytes.count, (0x30...0x39).contains(bytes[end]) { end += 1 }
                    bytes.replaceSubrange(value..<end, with: pieces[random(pieces.count)].utf8)
                } else {
                    bytes[random(bytes.count)] = UInt8(random(256))
                }
            }
            return bytes
        }
        func damaged(_ weights: Checkpoint) throws -> Checkpoint {
            var tensors = weights.tensors
            for _ in 0...random(2) {
                let index = random(tensors.count)
                let tensor = tensors[index]
                var (name, shape, type) = (tensor.name, tensor.shape, tensor.type)
                var (memory, range) = (tensor.memory, tensor.range)
                switch random(5) {
                case 0: tensors.remove(at: index)
                case 1: name = String(name.dropLast(1 + random(4)))
                case 2: name = "visual." + name
                case 3: type = .int64
                default:
                    if shape.isEmpty || random(4) == 0 {
                        shape.append(numbers[random(numbers.count)])
                    } else {
                        shape[random(shape.count)] = numbers[random(numbers.count)]
                    }
                    // No reader hands out a tensor without the bytes that its shape needs.
                    let bytes = shape.reduce(Double(type.bitCount / 8)) { $0 * Double($1) }
                    if bytes <= Double(zeros.bytes.count) {
                        (memory, range) = (zeros, 0..<Int(bytes))
                    } else {
                        shape = tensor.shape
                    }
                }
                guard tensors.count == weights.tensors.count else { break }
                tensors[index] = StoredTensor(name: name, shape: shape, type: type, memory: memory, range: range)
            }
            return try Checkpoint(
                name: weights.name, tensors: tensors, metadata: [:], format: weights.format, modules: weights.modules)
        }
        var models: [(weights: Checkpoint, config: String?)] = []
        for name in ["openai-vit", "openai-resnet"] {
            models.append((try Checkpoint.open(path: "\(Fixture.folder)/\(name)/archive.pt"), nil))
        }
        for (name, file) in [
            ("scaled", "pytorch_model.bin"), ("mean-after", "pytorch_model.safetensors"),
            ("siglip", "model.safetensors"), ("coca", "pytorch_model.bin"), ("mt5", "model.safetensors"),
        ] {
            let folder = "\(Fixture.folder)/open-clip-\(name)/open_clip_"
            // Where there is no folder, a text tower of transformers' is named by its name on the hub.
            models.append(
                (
                    try Checkpoint.open(path: folder + file),
                    try String(contentsOf: URL(filePath: folder + "config.json"), encoding: .utf8)
                        .replacing("\"hf_model_name\": \"text\"", with: "\"hf_model_name\": \"google/mt5-base\"")
                ))
        }
        var accepted = 0
        var slowest = 0.0
        for _ in 0..<cases {
            let start = threadSeconds()
            defer { slowest = max(slowest, threadSeconds() - start) }
            let model = models[random(models.count)]
            do {
                let weights = random(2) == 0 ? try damaged(model.weights) : model.weights
                let config = try model.config.map { text in
                    let bytes = random(2) == 0 ? damaged(text) : Array(text.utf8)
                    return try bytes.withUnsafeBytes { try JSON(parsing: $0) }
                }
                let opened = try ModelCheckpoint(weights: weights, openCLIPConfig: config)
                accepted += 1
                #expect(opened.configuration.vision.imageSize > 0)
            } catch {
                #expect(error is ModelError || error is CheckpointError)
            }
        }
        print("\(cases) damaged models: \(accepted) opened, the others are refused; the slowest took \(slowest) s")
        #expect(slowest < OpeningTests.longest)
        #expect(accepted > 0 && accepted < cases)
    }
}
