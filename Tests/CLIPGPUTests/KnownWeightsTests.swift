// Bare files of weights that are known by their checksum.

import CLIPCompute
import CLIPGPU
import CLIPHub
import CLIPModel
import Checkpoints
import Testing

@Suite("Weights known by their checksum")
struct KnownWeightsTests {
    /// A bare file of weights that says nothing of its activation, and its SHA-256.
    let file = repository + "/Tests/CLIPModelTests/Fixtures/openai-vit/training.pt"
    let digest = "1afcb7eefedabebcd3ebefa3f3eab8e714bdef1586f1d3269952ebf787642e76"

    private func table(checksum: String) throws -> ModelTable {
        var text = """
            {"architectures": {"ViT-tiny": {"embed_dim": 32,
              "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
              "text_cfg": {"context_length": 12, "vocab_size": 99, "width": 64, "heads": 1, "layers": 2}}},
             "weights": [
              {"name": "ViT-tiny/other", "hub": "owner/other", "checksum": "00000000", "preprocess":
                {"mean": [0, 0, 0], "std": [1, 1, 1], "interpolation": "bicubic", "resize_mode": "shortest"}},
              {"name": "ViT-tiny/drawn", "hub": "owner/drawn", "quick_gelu": true, "checksum": "\(checksum)", "preprocess":
                {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bilinear",
                 "resize_mode": "squash"}}]}
            """
        return try ModelTable(text.withUTF8 { try JSON(parsing: UnsafeRawBufferPointer($0)) })
    }

    @Test("A known file says its activation and its preprocessing, and where they are from")
    func known() throws {
        let model = try CLIP.open(path: file, ModelOptions(), table: table(checksum: String(digest.prefix(8))))
        #expect(model.configuration.text.transformer.activation == .quickGELU)
        #expect(model.configuration.vision.visionTransformer?.transformer.activation == .quickGELU)
        #expect(model.configuration.preprocessing.interpolation == .bilinear)
        let activation = try #require(model.configuration.facts.first { $0.name.contains("activation") })
        #expect(activation.source.contains("ViT-tiny/drawn"), "\(activation.source)")
    }

    @Test("What the caller says counts before any table")
    func stated() throws {
        let model = try CLIP.open(
            path: file, ModelOptions(activation: .gelu), table: table(checksum: String(digest.prefix(8))))
        #expect(model.configuration.text.transformer.activation == .gelu)
        #expect(model.configuration.preprocessing.interpolation == .bicubic)
    }

    @Test("An unknown file is refused with the option that decides", arguments: ["1afcb7ef0", "ffffffff"])
    func unknown(checksum: String) throws {
        let error = #expect(throws: ModelError.self) {
            try CLIP.open(path: file, ModelOptions(), table: table(checksum: checksum))
        }
        #expect(error?.description.contains("--activation") == true)
    }
}
