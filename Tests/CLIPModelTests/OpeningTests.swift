// What is read from a model's files, what is refused, and in which words.
import CLIPCompute
import CLIPModel
import Checkpoints
import Foundation
import TestSupport
import Testing

/// The fixture's model with its files changed.
private func opened(
    _ fixture: Fixture = Fixture("tiny-quick-gelu"), config: (inout [String: Any]) -> Void = { _ in },
    preprocessor: String? = nil, weights: (inout [StoredTensor]) -> Void = { _ in }
) throws -> ModelCheckpoint {
    var values = try fixture.config()
    config(&values)
    var tensors = try fixture.weights().tensors
    weights(&tensors)
    let json = try JSONSerialization.data(withJSONObject: values)
    return try ModelCheckpoint(
        weights: Checkpoint(name: "model.safetensors", tensors: tensors, metadata: [:]), config: parsed(json),
        preprocessor: preprocessor.map { try parsed(Data($0.utf8)) })
}

private func parsed(_ data: Data) throws -> JSON { try [UInt8](data).withUnsafeBytes { try JSON(parsing: $0) } }

private func message(_ body: () throws -> Void) -> String {
    do { try body() } catch { return "\(error)" }
    return "accepted"
}

private func edit(_ config: inout [String: Any], _ section: String, _ change: (inout [String: Any]) -> Void) {
    var values = config[section] as? [String: Any] ?? [:]
    change(&values)
    config[section] = values
}

extension [StoredTensor] {
    /// Puts zeros of another name, shape or type in a tensor's place.
    fileprivate mutating func replace(
        _ name: String, with newName: String? = nil, shape: [Int]? = nil, type: StoredType = .float32
    ) {
        guard let index = firstIndex(where: { $0.name == name }) else { return }
        let shape = shape ?? self[index].shape
        self[index] = zeros(newName ?? name, shape, type)
    }
}

extension Array {
    /// An element drawn by a function that gives a number below its argument.
    fileprivate func randomPick(_ random: (Int) -> Int) -> Element? { isEmpty ? nil : self[random(count)] }
}

private func zeros(_ name: String, _ shape: [Int], _ type: StoredType = .float32) -> StoredTensor {
    let count = shape.reduce(1, *) * type.bitCount / 8
    return StoredTensor(name: name, shape: shape, type: type, memory: FloatMemory(count: count), range: 0..<count)
}

/// Memory of the test's own.
final class FloatMemory: TensorMemory {
    let name = "model.safetensors"
    private let address: UInt
    private let count: Int

    init(count: Int, _ fill: [Float] = []) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Swift.max(count, 1), alignment: 4)
        _ = buffer.initializeMemory(as: UInt8.self, repeating: 0)
        fill.withUnsafeBytes { buffer.copyBytes(from: $0.prefix(count)) }
        address = UInt(bitPattern: buffer.baseAddress)
        self.count = count
    }

    deinit { UnsafeMutableRawPointer(bitPattern: address)?.deallocate() }

    var bytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: address), count: count)
    }
    func willNeed(_ range: Range<Int>) {}
    func letGo(_ range: Range<Int>) {}
}

@Suite("opening a model") struct OpeningTests {
    @Test("sizes and choices, and where each was read") func facts() throws {
        let model = try ModelCheckpoint.open(path: Fixture("tiny-gelu").folder + "/")
        let vision = try #require(model.configuration.vision.visionTransformer)
        let text = model.configuration.text
        #expect(vision.transformer.width == 88 && vision.transformer.attention.heads == 1)
        #expect(vision.transformer.attention == AttentionShape(width: 88, heads: 1))
        #expect(vision.imageSize == 15 && vision.patchSize == 5 && vision.rowsPerPicture == 10)
        #expect(vision.transformer.activation == .gelu && text.transformer.activation == .gelu)
        #expect(text.contextLength == 11 && text.vocabularySize == 201 && text.pooling == .greatestID)
        #expect(vision.transformer.mlpWidth == 72 && vision.transformer.layers == 2 && text.transformer.layers == 2)
        #expect(model.configuration.embeddingWidth == 20)
        let facts = model.configuration.facts
        #expect(facts.first { $0.name == "vision activation" }?.source == "config.json vision_config.hidden_act")
        #expect(facts.first { $0.name == "text pooling" }?.source.contains("2 means the greatest id") == true)
        #expect(facts.first { $0.name == "mean" }?.source == "OpenAI's, since there is no preprocessor_config.json")
        #expect(model.configuration.preprocessing.normalization == .openAI)
    }

    @Test("what is absent has transformers' default; old *_config_dict override") func defaults() throws {
        let model = try opened { config in
            for section in ["vision_config", "text_config"] {
                edit(&config, section) {
                    $0["hidden_act"] = nil
                    $0["layer_norm_eps"] = nil
                    $0["eos_token_id"] = nil
                    $0["projection_dim"] = 7
                }
            }
        }
        #expect(model.configuration.vision.visionTransformer?.transformer.activation == .quickGELU)
        #expect(model.configuration.text.transformer.normEpsilon == 1e-5)
        #expect(model.configuration.text.pooling == .first(49407))
        #expect(
            model.configuration.facts.first { $0.name == "text activation" }?.source
                == "transformers' default for config.json text_config.hidden_act")

        let old = try opened { config in
            config["text_config_dict"] = config["text_config"]
            edit(&config, "text_config") { $0["hidden_act"] = "relu" }
            config["vision_config_dict"] = NSNull()
        }
        #expect(old.configuration.text.transformer.activation == .quickGELU)
    }

    @Test("names may stand under a prefix, and position ids mean nothing") func names() throws {
        let fixture = Fixture("tiny-quick-gelu")
        let plain = try opened(fixture)
        let prefixed = try opened(
            fixture,
            weights: {
                $0 = $0.map {
                    StoredTensor(
                        name: "clip." + $0.name, shape: $0.shape, type: $0.type, memory: $0.memory, range: $0.range)
                }
                for tower in ["vision_model", "text_model"] {
                    $0.append(zeros("clip.\(tower).embeddings.position_ids", [1, 17], .int64))
                }
            })
        #expect(prefixed.logitScale == plain.logitScale)
        #expect(prefixed.configuration.facts.last?.value == "clip.")
        let device = try #require(ParityDevice.all.first)
        let ids = try fixture.ids()
        let expected = try device.encoder(plain, .text).encodeTexts(ids)
        #expect(try device.encoder(prefixed, .text).encodeTexts(ids) == expected)
    }

    @Test("all that is missing, unexpected or misshapen is listed, with the nearest name") func accounts() {
        let found = message {
            _ = try opened(weights: {
                $0.replace("vision_model.pre_layrnorm.weight", with: "vision_model.pre_layernorm.weight")
                $0.replace("text_model.encoder.layers.0.mlp.fc2.bias", shape: [39])
                $0.replace("visual_projection.weight", type: .int32)
                $0.append(zeros("something\u{7}.else", [2, 3]))
            })
        }
        for line in [
            "model.safetensors does not fit this model (5 problems, ",
            "missing     vision_model.pre_layrnorm.weight [48]   (found vision_model.pre_layernorm.weight [48])",
            "unexpected  vision_model.pre_layernorm.weight [48]   (expected vision_model.pre_layrnorm.weight)",
            "unexpected  something\\u{7}.else [2, 3]",
            "shape       text_model.encoder.layers.0.mlp.fc2.bias: expected [40], found [39]",
            "type        visual_projection.weight: expected floating-point numbers, found I32",
        ] {
            #expect(found.contains(line), "\(line)\nis not in\n\(found)")
        }
        let empty = message { _ = try opened(weights: { $0 = [] }) }
        #expect(empty.contains("and ") && empty.contains(" more") && empty.split(separator: "\n").count < 30)
    }

    @Test("a configuration that contradicts the weights is named") func contradictions() {
        for (change, sentence) in [
            (
                { edit(&$0, "vision_config") { $0["hidden_size"] = 64 } },
                "config.json vision_config.hidden_size says 64, but"
            ),
            (
                { edit(&$0, "vision_config") { $0["num_hidden_layers"] = 1 } },
                "vision_config.num_hidden_layers says 1, but"
            ),
            (
                { edit(&$0, "text_config") { $0["num_hidden_layers"] = 99 } },
                "text_config.num_hidden_layers says 99, but"
            ),
            (
                { edit(&$0, "text_config") { $0["intermediate_size"] = nil } },
                "transformers' default for config.json text_config.intermediate_size says 2048"
            ),
            ({ edit(&$0, "vision_config") { $0["image_size"] = 224 } }, "rows with the class token, but"),
            ({ edit(&$0, "vision_config") { $0["patch_size"] = 3 } }, "vision_config.patch_size says 3, but"),
            ({ edit(&$0, "text_config") { $0["vocab_size"] = 3 } }, "text_config.vocab_size says 3, but"),
            ({ $0["projection_dim"] = 512 }, "config.json.projection_dim says 512, but"),
            ({ edit(&$0, "vision_config") { $0["num_attention_heads"] = 7 } }, "7 heads, which do not divide"),
            ({ edit(&$0, "vision_config") { $0["num_channels"] = 4 } }, "4 channels"),
            ({ edit(&$0, "text_config") { $0["hidden_act"] = "swish" } }, "says \"swish\"; known are"),
            ({ edit(&$0, "text_config") { $0["hidden_size"] = -1 } }, "is not a whole number from 1"),
            ({ edit(&$0, "text_config") { $0["hidden_size"] = 1e30 } }, "is not a whole number from 1"),
            ({ edit(&$0, "text_config") { $0["eos_token_id"] = [1, 2] } }, "is not a whole number from 0"),
            ({ edit(&$0, "text_config") { $0["layer_norm_eps"] = 0 } }, "small positive number"),
            ({ $0["text_config"] = [1] }, "text_config is not an object"),
            ({ $0["model_type"] = "siglip" }, "vision_model.head.probe"),
            ({ $0["model_type"] = "siglip2" }, "NaFlex"),
            ({ $0["model_type"] = nil }, "or \"siglip\", found none"),
        ] as [((inout [String: Any]) -> Void, String)] {
            let found = message { _ = try opened(config: change) }
            #expect(found.contains(sentence), "\(found)")
        }
    }

    @Test("what a SigLIP's folder says of pictures and of padding") func sigLIP() throws {
        let model = try ModelCheckpoint.open(path: Fixture.folder + "/siglip")
        let configuration = model.configuration
        #expect(configuration.preprocessing.resize == .squash(30))
        #expect(configuration.preprocessing.interpolation == .bilinear)
        let source = try #require(configuration.facts.first { $0.name == "interpolation" }?.source)
        #expect(source == "processor_config.json image_processor.resample")
        // The tokenizer fills up with 0, whatever the configuration says.
        #expect(configuration.text.paddingID == 0 && configuration.text.readsPadding)
        let padding = try #require(configuration.facts.first { $0.name == "padding" })
        #expect(padding.value == "0" && padding.source.contains("pad_token"))
        guard case .folder(let tokenizer) = configuration.tokenizer else {
            Issue.record("the tokenizer is \(configuration.tokenizer)")
            return
        }
        #expect(tokenizer.library == .transformers && tokenizer.path.hasSuffix("/siglip/"))
        #expect(model.logitBias.map { abs($0 + 4.2) < 1e-6 } == true)
        // What the tokenizer's reader finds counts more, unless the model hides its padding by its token.
        let other = try model.filledUp(with: 1)
        #expect(other.configuration.text.paddingID == 1)
        #expect(other.configuration.facts.filter { $0.name == "padding" }.map(\.value) == ["1"])
        let hiding = try ModelCheckpoint.open(path: Fixture.folder + "/open-clip-xlm-roberta")
        #expect(try hiding.filledUp(with: 1).configuration.text.paddingID == 1)
        #expect(message { _ = try hiding.filledUp(with: 0) }.contains("do not belong together"))
    }

    @Test("preprocessing in its several forms") func preprocessing() throws {
        let size = 28
        #expect(try opened().configuration.vision.imageSize == size, "the fixture's size is used below")
        let old = try opened(
            preprocessor: """
                {"crop_size": \(size), "do_center_crop": true, "do_normalize": true, "do_resize": true, "size": \(size + 2),
                 "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 1], "resample": 2}
                """
        ).configuration.preprocessing
        #expect(old.resize == .shortest(size + 2) && old.cropSize == size && old.interpolation == .bilinear)
        #expect(old.normalization == PixelNormalization(mean: [0.5, 0.5, 0.5], deviation: [0.25, 0.5, 1]))
        let new = try opened(
            preprocessor: """
                {"crop_size": {"height": \(size), "width": \(size)}, "size": {"shortest_edge": \(size)},
                 "rescale_factor": 0.00392156862745098}
                """
        ).configuration.preprocessing
        #expect(new.resize == .shortest(size) && new.interpolation == .bicubic && new.normalization == .openAI)
        let squash = try opened(
            preprocessor: """
                {"size": {"height": \(size), "width": \(size)}, "do_center_crop": false}
                """
        ).configuration.preprocessing
        #expect(squash.resize == .squash(size) && squash.cropSize == size)
        // What a class does where its file leaves it out.
        let sigLIP = try opened(
            preprocessor: """
                {"image_processor_type": "SiglipImageProcessorFast", "size": {"height": \(size), "width": \(size)}}
                """
        ).configuration.preprocessing
        #expect(sigLIP.resize == .squash(size) && sigLIP.interpolation == .bicubic)
        #expect(sigLIP.normalization == PixelNormalization(mean: [0.5, 0.5, 0.5], deviation: [0.5, 0.5, 0.5]))
        let vit = try opened(preprocessor: "{\"image_processor_type\": \"ViTImageProcessor\", \"size\": \(size)}")
        #expect(vit.configuration.preprocessing.resize == .squash(size))
        #expect(vit.configuration.preprocessing.interpolation == .bilinear)
        #expect(vit.configuration.facts.contains { $0.name == "image processor" && $0.value == "ViTImageProcessor" })
        for (text, sentence) in [
            ("{}", "gives pictures of 224 pixels a side, but the model takes \(size)"),
            ("[]", "is not a JSON object"),
            ("{\"crop_size\": \(size), \"size\": {\"longest\": 3}}", "neither shortest_edge nor height and width"),
            ("{\"crop_size\": \(size), \"size\": -4}", "size"),
            ("{\"crop_size\": \(size), \"size\": 4}", "smaller than the crop"),
            ("{\"crop_size\": \(size), \"resample\": 9}", "none of Pillow's filters"),
            ("{\"crop_size\": \(size), \"image_mean\": [1, 2]}", "image_mean is not three numbers"),
            ("{\"crop_size\": \(size), \"image_std\": [1, 2, 0]}", "image_std must be positive"),
            ("{\"crop_size\": \(size), \"do_normalize\": false}", "do_normalize is false"),
            ("{\"crop_size\": \(size), \"do_resize\": 1}", "neither true nor false"),
            ("{\"crop_size\": \(size), \"do_center_crop\": false}", "would not fit the model"),
            ("{\"crop_size\": \(size), \"rescale_factor\": 1}", "expected 1/255"),
            ("{\"image_processor_type\": \"Siglip2ImageProcessor\"}", "\"Siglip2ImageProcessor\" is not known"),
            ("{\"image_processor_type\": \"SiglipImageProcessor\", \"size\": \(size)}", "would not fit the model"),
        ] {
            let found = message { _ = try opened(preprocessor: text) }
            #expect(found.contains(sentence), "\(found)")
        }
    }

    @Test("NaN and infinity in a weight are named when its tower is loaded") func finite() throws {
        let device = try #require(ParityDevice.all.first)
        let name = "vision_model.encoder.layers.1.mlp.fc1.weight"
        let model = try opened(weights: { tensors in
            guard let index = tensors.firstIndex(where: { $0.name == name }) else { return }
            let shape = tensors[index].shape
            var values = [Float](repeating: 0.5, count: shape[0] * shape[1])
            values[3 * shape[1] + 2] = .infinity
            tensors[index] = StoredTensor(
                name: name, shape: shape, type: .float32, memory: FloatMemory(count: values.count * 4, values),
                range: 0..<(values.count * 4))
        })
        let found = message { _ = try device.encoder(model, .image) }
        #expect(found.contains("the weight \(name)") && found.contains("is NaN or infinite at [3, 2]"), "\(found)")
        _ = try device.encoder(model, .text)
    }

    @Test("folders that are no model are refused by a sentence") func folders() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "clip-gpu-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        #expect(
            message { _ = try ModelCheckpoint.open(path: folder.path()) }.contains(
                "expected config.json (transformers)"))
        let config = folder.appending(path: "config.json")
        try Data("{\"model_type\": ".utf8).write(to: config)
        #expect(message { _ = try ModelCheckpoint.open(path: folder.path()) }.contains("config.json is not sound JSON"))
        try Data("{\"model_type\": \"bert\"}".utf8).write(to: config)
        #expect(message { _ = try ModelCheckpoint.open(path: folder.path()) }.contains("found \"bert\""))
        try Data("{\"model_type\": \"clip\"}".utf8).write(to: config)
        #expect(message { _ = try ModelCheckpoint.open(path: folder.path()) }.contains("holds no weights"))
        try Data().write(to: folder.appending(path: "model.safetensors"))
        #expect(message { _ = try ModelCheckpoint.open(path: folder.path()) }.contains("has 0 bytes"))
    }

    /// More with `CLIP_GPU_MUTATIONS`, another seed with `CLIP_GPU_SEED`, as in CheckpointsTests.
    static let cases = ProcessInfo.processInfo.environment["CLIP_GPU_MUTATIONS"].flatMap(Int.init) ?? 3000
    static let seed = ProcessInfo.processInfo.environment["CLIP_GPU_SEED"].flatMap(UInt64.init) ?? 1
    /// A case that takes longer hangs, for what it is worth to a user.
    static let longest = 10.0

    @Test("damaged configurations are read or refused") func damage() throws {
        let cases = Self.cases
        let weights = try Fixture("tiny-quick-gelu").weights()
        let config = try [UInt8](Data(contentsOf: URL(filePath: Fixture("tiny-quick-gelu").folder + "/config.json")))
        let preprocessor = [UInt8](
            "{\"crop_size\": {\"height\": 28, \"width\": 28}, \"size\": {\"shortest_edge\": 28}, \"resample\": 3}".utf8)
        let pieces = [
            "0", "-1", "9223372036854775807", "1e308", "null", "[28,28]", "{}", "true", "\"gelu\"", "16777216", "1",
        ]
        // SplitMix64 (Steele, Lea, Flood 2014): the same numbers every time.
        var state: UInt64 = 7 &* Self.seed
        func random(_ limit: Int) -> Int {
            state &+= 0x9E37_79B9_7F4A_7C15
            var z = state
            z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
            z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
            return Int((z ^ (z >> 31)) % UInt64(limit))
        }
        func damaged(_ bytes: [UInt8]) -> [UInt8] {
            var bytes = bytes
            for _ in 0...random(2) {
                // Mostly whole values, so that the text stays JSON and its numbers are reached.
                if random(4) > 0,
                    let value = bytes.indices.filter({ (0x30...0x39).contains(bytes[$0]) }).randomPick(random)
                {
                    var end = value
                    while end < bytes.count, (0x30...0x39).contains(bytes[end]) { end += 1 }
                    bytes.replaceSubrange(value..<end, with: pieces[random(pieces.count)].utf8)
                } else {
                    bytes[random(bytes.count)] = UInt8(random(256))
                }
            }
            return bytes
        }
        var accepted = 0
        var slowest = 0.0
        for _ in 0..<cases {
            let start = threadSeconds()
            defer { slowest = max(slowest, threadSeconds() - start) }
            let config = random(3) > 0 ? damaged(config) : config
            let preprocessor = random(3) > 0 ? damaged(preprocessor) : preprocessor
            do {
                let model = try ModelCheckpoint(
                    weights: weights, config: config.withUnsafeBytes { try JSON(parsing: $0) },
                    preprocessor: preprocessor.withUnsafeBytes { try JSON(parsing: $0) })
                accepted += 1
                #expect(model.configuration.vision.imageSize == model.configuration.preprocessing.cropSize)
            } catch {
                #expect(error is ModelError || error is CheckpointError)
            }
        }
        print(
            "\(cases) damaged configurations of transformers: \(accepted) fit the model, the others are refused; the "
                + "slowest took \(slowest) s")
        #expect(slowest < Self.longest)
        #expect(accepted > 0 && accepted < cases)
    }

    @Test("the row of a sentence") func pooling() {
        #expect(TextConfiguration.Pooling.greatestID.row(of: [5, 9, 9, 1]) == 1)
        #expect(TextConfiguration.Pooling.first(9).row(of: [5, 1, 9, 9]) == 2)
        #expect(TextConfiguration.Pooling.first(7).row(of: [5, 1, 9]) == 0)
        #expect(TextConfiguration.Pooling.greatestID.row(of: []) == nil)
        #expect(TextConfiguration.Pooling.first(7).row(of: []) == nil)
    }
}
