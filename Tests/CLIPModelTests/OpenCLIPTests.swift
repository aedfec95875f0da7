import CLIPCompute
import CLIPModel
import Checkpoints
// Parity with OpenAI's and open_clip's own classes, and what is refused. tools/make_open_clip_fixtures.py makes the files.
import Foundation
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
        + ["plain", "scaled", "mean-after", "mean-before", "eos", "causal-last", "resnet"].map {
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

    @Test("another activation gives other features") func wrongActivation() throws {
        let device = try #require(ParityDevice.all.first)
        let model = try ModelCheckpoint.open(
            path: Fixture.folder + "/openai-vit/training.pt", options: ModelOptions(activation: .gelu))
        let errors = try errors(model, Fixture("openai-vit"), device)
        #expect(errors.image > 1e-3 && errors.text > 1e-3)
    }

    @Test("what a file says, and what it does not") func facts() throws {
        let archive = try ModelCheckpoint.open(path: Fixture.folder + "/openai-vit/archive.pt")
        let fact = try #require(archive.configuration.facts.first { $0.name == "activation" })
        #expect(fact.value == "quickGELU" && fact.source.contains("class"))
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
        #expect(sentence("openai-vit/archive.pt", .gelu)?.contains("says that the activation is quickGELU") == true)
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
            (#""context_length": 13"#, #""context_length": 12"#, "context length of the weights is 13"),
            (#""patch_size": 7"#, #""timm_model_name": "vit_x", "patch_size": 7"#, "\"vit_x\""),
            (#""heads": 5"#, #""heads": 5, "hf_model_name": "xlm""#, "\"xlm\""),
            (#""heads": 5"#, #""heads": 5, "embed_cls": true"#, "class token in the text"),
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
}
