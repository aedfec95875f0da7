// Digests, names, the table of known weights and the environment.

import CLIPHub
import Checkpoints
import Foundation
import Testing

@Suite("Digests")
struct DigestTests {
    @Test(
        "SHA-256 of the standard's examples",
        arguments: [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
            ),
            (
                String(repeating: "a", count: 1_000_000),
                "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
            ),
        ])
    func examples(text: String, digest: String) {
        #expect(sha256(Array(text.utf8)) == digest)
    }

    @Test("git's names of blobs")
    func blobs() {
        #expect(gitBlob([]) == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391")
        #expect(gitBlob(Array("hello\n".utf8)) == "ce013625030ba8dba906f756967f9e9ca394464a")
        #expect(gitBlob(Array("{\"do_resize\": true}".utf8)) == "4c401c072eb8c8dbe4d1a5f4f54848514e70f059")
    }

    @Test("Bytes in pieces are bytes at once, at every length around a block's")
    func pieces() {
        for count in 0..<200 {
            let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 * 7) }
            for cut in [0, 1, 63, 64, 65, count] where cut <= count {
                for plain in [false, true] {
                    var hasher = Hasher256(plain: plain)
                    bytes[..<cut].withUnsafeBytes { hasher.update($0) }
                    bytes[cut...].withUnsafeBytes { hasher.update($0) }
                    #expect(hasher.end() == sha256(bytes))
                }
            }
        }
        // Of hashlib.
        #expect(
            sha256((0..<119).map { UInt8($0) }) == "da18797ed7c3a777f0847f429724a2d8cd5138e6ed2895c3fa1a6d39d18f7ec6")
        #expect(
            sha256((0..<120).map { UInt8($0) }) == "f52b23db1fbb6ded89ef42a23ce0c8922c45f25c50b568a93bf1c075420bbb7c")
    }
}

@Suite("Names of models")
struct NameTests {
    @Test(
        "OpenAI's nine",
        arguments: [
            "RN50", "RN101", "RN50x4", "RN50x16", "RN50x64", "ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336px",
        ])
    func openAI(name: String) throws {
        guard case .openAI(let model) = try ModelName(name) else {
            Issue.record("\(name) is not OpenAI's")
            return
        }
        #expect(model.name == name)
    }

    @Test("open_clip's, with what the bare file does not say")
    func openCLIP() throws {
        guard case .openCLIP(let weights) = try ModelName("ViT-L-14/laion2b_s32b_b82k") else {
            Issue.record("not open_clip's")
            return
        }
        #expect(weights.repository == "laion/CLIP-ViT-L-14-laion2B-s32B-b82K")
        let preprocess = weights.configuration["preprocess_cfg"]
        #expect(preprocess?["mean"]?.array?.compactMap(\.double) == [0.5, 0.5, 0.5])
        #expect(preprocess?["resize_mode"]?.string == "shortest")
        #expect(weights.configuration["model_cfg"]?["embed_dim"]?.integer == 768)
        #expect(weights.configuration["model_cfg"]?["quick_gelu"] == nil)

        guard case .openCLIP(let metaCLIP) = try ModelName("ViT-B-32-quickgelu/metaclip-400M") else {
            Issue.record("not open_clip's")
            return
        }
        #expect(metaCLIP.name == "ViT-B-32/metaclip_400m")
        #expect(metaCLIP.configuration["model_cfg"]?["quick_gelu"]?.bool == true)
    }

    @Test("The hub's")
    func hub() throws {
        guard case .hub("owner/na.me", "main") = try ModelName("hf:owner/na.me"),
            case .hub("owner/name", "refs/pr/1") = try ModelName("hf:owner/name@refs/pr/1")
        else {
            Issue.record("not read")
            return
        }
        #expect(try ModelName("hf:owner/name@v1").text == "hf:owner/name@v1")
    }

    @Test(
        "What is none says what was meant",
        arguments: [
            ("ViT-B-32", "its weights must be named too: ViT-B-32/openai"),
            ("ViT-B-32/nothing", "open_clip knows no such weights"),
            ("ViT-B-32-quickgelu/laion2b_s34b_b79k", "open_clip knows no such weights"),
            ("convnext_base/laion400m_s13b_b51k", "it needs timm's image tower"),
            ("openai/clip-vit-base-patch32", "is named hf:openai/clip-vit-base-patch32"),
            ("hf:owner", "expected hf:owner/name"), ("hf:../name", "expected hf:owner/name"),
            ("hf:owner/na me", "expected hf:owner/name"), ("hf:owner/name@../main", "expected hf:owner/name"),
            ("hf:owner/name@", "expected hf:owner/name"), ("no such file.pt", "neither a file, nor a folder"),
            ("", "neither a file"), ("/", "neither a file"),
        ])
    func unknown(name: String, says: String) {
        let error = #expect(throws: HubError.self) { try ModelName(name) }
        #expect(error?.description.contains(says) == true, "\(error?.description ?? "")")
    }

    @Test("The table is whole")
    func table() {
        let weights = ModelTable.current.weights
        #expect(weights.count > 100)
        #expect(Set(weights.map(\.name)).count == weights.count)
        for entry in weights {
            #expect(entry.dimension > 0 && entry.imageSize >= 224)
            #expect(entry.configuration["preprocess_cfg"]?["mean"]?.array?.count == 3)
            #expect(entry.repository.split(separator: "/").count == 2)
        }
        #expect(weights.contains { $0.name == "ViT-SO400M-14-SigLIP-384/webli" })
        // As openai-clip's ViT-B/32 counts them.
        #expect(OpenAIModel.all.first { $0.name == "ViT-B/32" }?.parameters == 151_277_313)
        #expect(OpenAIModel.all.allSatisfy { $0.parameters != nil })
    }
}

@Suite("The environment")
struct SettingsTests {
    private func settings(_ variables: [String: String]) -> HubSettings { HubSettings { variables[$0] } }

    @Test("Folders, as huggingface_hub and openai-clip find theirs")
    func folders() {
        #expect(settings(["HOME": "/h"]).hubCache == "/h/.cache/huggingface/hub")
        #expect(settings(["HOME": "/h"]).clipCache == "/h/.cache/clip")
        #expect(settings(["HOME": "/h", "XDG_CACHE_HOME": "/x"]).hubCache == "/x/huggingface/hub")
        #expect(settings(["HOME": "/h", "XDG_CACHE_HOME": "/x"]).clipCache == "/h/.cache/clip")
        #expect(settings(["HOME": "/h", "HF_HOME": "~/hf"]).hubCache == "/h/hf/hub")
        #expect(settings(["HF_HOME": "/a", "HF_HUB_CACHE": "/b", "HUGGINGFACE_HUB_CACHE": "/c"]).hubCache == "/b")
        #expect(settings(["HOME": "/h", "HF_ENDPOINT": "https://mirror/"]).endpoint == "https://mirror")
    }

    @Test("Tokens, and no line ends in them")
    func tokens() throws {
        #expect(settings(["HOME": "/nowhere"]).token == nil)
        #expect(settings(["HF_TOKEN": " a\r\nInjected: b\n"]).token == "aInjected:b")
        let folder = FileManager.default.temporaryDirectory.path + "/clip-gpu-token-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try "kept\n".write(toFile: folder + "/token", atomically: true, encoding: .utf8)
        #expect(settings(["HF_HOME": folder]).token == "kept")
        #expect(settings(["HF_HOME": folder, "HF_TOKEN": "given"]).token == "given")
        #expect(settings(["HF_HOME": folder, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"]).token == nil)
    }

    @Test(
        "Offline is what huggingface_hub takes for true",
        arguments: [("1", true), ("yes", true), ("0", false), ("", false)])
    func offline(value: String, expected: Bool) {
        #expect(settings(["HF_HUB_OFFLINE": value]).isOffline == expected)
    }
}
