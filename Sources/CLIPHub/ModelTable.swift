// The models that have names: OpenAI's nine, and the weights that open_clip knows.
import CHub
import Checkpoints

/// One of OpenAI's models: `_MODELS` of clip/clip.py. Its name is also the digest's place in its address.
package struct OpenAIModel: Sendable {
    package let name: String
    let file: String
    let sha256: String
    package let size: Int
    package let imageSize: Int
    package let dimension: Int

    /// Of both towers; none that is not in the table.
    package var parameters: Int? {
        let architecture = name == "ViT-L/14@336px" ? "ViT-L-14-336" : name.replacing("/", with: "-")
        return ModelTable.current.parameters[architecture]
    }

    package static let all: [OpenAIModel] = [
        OpenAIModel(
            name: "RN50", file: "RN50.pt",
            sha256: "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762", size: 255_827_503,
            imageSize: 224, dimension: 1024),
        OpenAIModel(
            name: "RN101", file: "RN101.pt",
            sha256: "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599", size: 291_791_292,
            imageSize: 224, dimension: 512),
        OpenAIModel(
            name: "RN50x4", file: "RN50x4.pt",
            sha256: "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd", size: 421_854_225,
            imageSize: 288, dimension: 640),
        OpenAIModel(
            name: "RN50x16", file: "RN50x16.pt",
            sha256: "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa", size: 661_125_706,
            imageSize: 384, dimension: 768),
        OpenAIModel(
            name: "RN50x64", file: "RN50x64.pt",
            sha256: "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c", size: 1_353_500_174,
            imageSize: 448, dimension: 1024),
        OpenAIModel(
            name: "ViT-B/32", file: "ViT-B-32.pt",
            sha256: "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af", size: 353_976_522,
            imageSize: 224, dimension: 512),
        OpenAIModel(
            name: "ViT-B/16", file: "ViT-B-16.pt",
            sha256: "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f", size: 350_837_078,
            imageSize: 224, dimension: 512),
        OpenAIModel(
            name: "ViT-L/14", file: "ViT-L-14.pt",
            sha256: "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836", size: 932_768_134,
            imageSize: 224, dimension: 768),
        OpenAIModel(
            name: "ViT-L/14@336px", file: "ViT-L-14-336px.pt",
            sha256: "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02", size: 934_088_680,
            imageSize: 336, dimension: 768),
    ]
}

/// Weights that open_clip knows, and what a file of them does not say about itself.
package struct OpenCLIPWeights: Sendable {
    /// ARCHITECTURE/TAG.
    package let name: String
    package let repository: String
    package let licence: String?
    package let imageSize: Int
    package let dimension: Int
    /// Of both towers; none where it cannot be counted without the hub.
    package let parameters: Int?
    /// The first digits of the SHA-256 of the file that open_clip fetched before the hub had the weights.
    let checksum: String?
    /// What open_clip_config.json would say.
    package let configuration: JSON

    /// The tokenizer's repository; none for CLIP's own.
    var tokenizer: String? {
        configuration["model_cfg"].flatMap(ModelFiles.tokenizerRepository)
    }
}

/// The table that tools/make_model_table.py writes.
package struct ModelTable: Sendable {
    package let weights: [OpenCLIPWeights]
    /// Names of architectures to how many parameters they have.
    let parameters: [String: Int]
    /// Names of architectures that cannot be opened to what they would need.
    let refused: [String: String]

    /// The table in the binary. It is sound: a test reads it.
    package static let current: ModelTable = {
        let bytes = UnsafeRawBufferPointer(start: chub_model_table(), count: chub_model_table_count())
        return (try? JSON(parsing: bytes)).map(ModelTable.init) ?? ModelTable(.null)
    }()

    package init(_ json: JSON) {
        let parameters = Self.members(json["parameters"], \.integer)
        weights = (json["weights"]?.array ?? []).compactMap { entry in
            guard let name = entry["name"]?.string, let hub = entry["hub"]?.string,
                let architecture = name.split(separator: "/").first,
                case .object(var model)? = json["architectures"]?[String(architecture)],
                let preprocess = entry["preprocess"]
            else { return nil }
            if entry["quick_gelu"]?.bool == true {
                model.removeAll { $0.key == "quick_gelu" }
                model.append(JSON.Member(key: "quick_gelu", value: .bool(true)))
            }
            let size = JSON.object(model)["vision_cfg"]?["image_size"]?.integer
            return OpenCLIPWeights(
                name: name, repository: hub, licence: entry["licence"]?.string, imageSize: size ?? 224,
                dimension: JSON.object(model)["embed_dim"]?.integer ?? 0,
                parameters: parameters[String(architecture)], checksum: entry["checksum"]?.string,
                configuration: .object([
                    JSON.Member(key: "model_cfg", value: .object(model)),
                    JSON.Member(key: "preprocess_cfg", value: preprocess),
                ]))
        }
        refused = Self.members(json["refused"], \.string)
        self.parameters = parameters
    }

    private static func members<Value>(_ object: JSON?, _ value: (JSON) -> Value?) -> [String: Value] {
        guard case .object(let members)? = object else { return [:] }
        return members.reduce(into: [:]) { $0[$1.key] = value($1.value) }
    }

    func weights(named name: String) -> OpenCLIPWeights? { weights.first { $0.name == name } }

    /// The weights that these bytes are, whatever their file is called now: open_clip's own downloads, before the hub had
    /// them, are known by their SHA-256. Reads all of them.
    package func weights(in file: some TensorMemory) -> OpenCLIPWeights? {
        let digest = file.withBytes { bytes in
            var hasher = Hasher256()
            // Piece by piece, so that a file of gigabytes need not be in memory at once.
            let piece = 1 << 24
            for start in stride(from: 0, to: bytes.count, by: piece) {
                let range = start..<min(start + piece, bytes.count)
                hasher.update(UnsafeRawBufferPointer(rebasing: bytes[range]))
                file.letGo(range)
            }
            return hasher.end()
        }
        return weights.first { $0.checksum.map(digest.hasPrefix) ?? false }
    }

    /// The names of an architecture's weights.
    func names(of architecture: String) -> [String] {
        weights.map(\.name).filter { $0.hasPrefix(architecture + "/") }
    }
}

/// What a name stands for.
package enum ModelName: Sendable {
    case openAI(OpenAIModel)
    case openCLIP(OpenCLIPWeights)
    /// "owner/name" and a branch, a tag or a commit.
    case hub(String, revision: String)

    /// Reads `ViT-B/32`, `ViT-B-32/laion2b_s34b_b79k` or `hf:owner/name@revision`.
    ///
    /// - Throws: `HubError`, which says what was probably meant.
    package init(_ text: String) throws {
        if let model = OpenAIModel.all.first(where: { $0.name == text }) {
            self = .openAI(model)
            return
        }
        if text.hasPrefix("hf:") {
            let parts = text.dropFirst(3).split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false)
            let revision = parts.count > 1 ? String(parts[1]) : "main"
            guard parts[0].contains("/"), Repository(String(parts[0]), revision: revision) != nil else {
                throw HubError.model(
                    "\(quoted(text)) names no model of the hub: expected hf:owner/name or hf:owner/name@revision")
            }
            self = .hub(String(parts[0]), revision: revision)
            return
        }
        let table = ModelTable.current
        let parts = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        // open_clip takes tags in any case and with either dash, and names QuickGELU in the architecture where the tag
        // already decides it.
        var architecture = parts[0]
        let tag = parts.count == 2 ? parts[1].lowercased().split(separator: "-").joined(separator: "_") : nil
        let suffix = "-quickgelu"
        if architecture.hasSuffix(suffix) { architecture.removeLast(suffix.count) }
        if let tag, let weights = table.weights(named: architecture + "/" + tag),
            architecture == parts[0] || weights.configuration["model_cfg"]?["quick_gelu"]?.bool == true
        {
            self = .openCLIP(weights)
            return
        }
        throw HubError.model(Self.unknown(text, architecture, hasTag: tag != nil, table))
    }

    private static func unknown(_ text: String, _ architecture: String, hasTag: Bool, _ table: ModelTable) -> String {
        let names = table.names(of: architecture)
        let known = names.prefix(4).joined(separator: ", ") + (names.count > 4 ? ", …" : "")
        if !names.isEmpty {
            return hasTag
                ? "open_clip knows no such weights as \(quoted(text)); of \(architecture) there are \(known) (clip-gpu models "
                    + "lists all)"
                : "\(text) is an architecture of open_clip, and its weights must be named too: \(known)"
        }
        if let reason = table.refused[architecture] {
            return "\(text) cannot be opened: it needs \(reason)"
        }
        let hint = hasTag && Repository(text) != nil ? "; a model of Hugging Face's hub is named hf:\(text)" : ""
        return
            "\(quoted(text)) is neither a file, nor a folder, nor the name of a model; clip-gpu models lists the names\(hint)"
    }

    /// As it is written.
    package var text: String {
        switch self {
        case .openAI(let model): model.name
        case .openCLIP(let weights): weights.name
        case .hub(let name, let revision): revision == "main" ? "hf:" + name : "hf:\(name)@\(revision)"
        }
    }
}
