// A repository of the hub, as it lies in huggingface_hub's cache and as the hub describes it.
//
// The cache is huggingface_hub's, to the letter, so that either finds what the other fetched:
// models--OWNER--NAME/blobs/ETAG holds the bytes, snapshots/COMMIT/FILE are links to them (or, where there are no links,
// the bytes themselves), refs/REVISION says which commit a branch was, and .no_exist/COMMIT/FILE says that there is no such
// file. Files are locked as it locks them.
import Checkpoints

/// What is asked for: a repository at a branch, a tag or a commit.
struct Repository: Hashable {
    /// "owner/name", or an old one's "name".
    let identifier: String
    let revision: String

    init?(_ identifier: String, revision: String = "main") {
        let parts = identifier.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, parts.allSatisfy({ Self.isName($0) }), !identifier.contains("--"),
            revision.split(separator: "/", omittingEmptySubsequences: false).allSatisfy({ Self.isName($0) })
        else { return nil }
        self.identifier = identifier
        self.revision = revision
    }

    private static func isName(_ part: Substring) -> Bool {
        let isPlain = part.unicodeScalars.allSatisfy {
            $0.isASCII
                && ($0.properties.isAlphabetic || $0.properties.numericType != nil || "-_.".unicodeScalars.contains($0))
        }
        return isPlain && !part.isEmpty && part.count <= 96 && part != "." && part != ".."
    }

    static func isCommit(_ text: String) -> Bool { text.utf8.count == 40 && text.utf8.allSatisfy(Digest.isHexadecimal) }
}

/// A repository's place in the cache.
struct CachedRepository {
    let folder: String
    let revision: String
    private let locks: String

    init(_ repository: Repository, _ settings: HubSettings) {
        let name = "models--" + repository.identifier.split(separator: "/").joined(separator: "--")
        folder = settings.hubCache + "/" + name
        locks = settings.hubCache + "/.locks/" + name
        revision = repository.revision
    }

    /// The commit that the revision was when it was last fetched.
    var commit: String? {
        if Repository.isCommit(revision) { return revision }
        let text = Files.text(folder + "/refs/" + revision).map { $0.prefix { !$0.isWhitespace } }.map(String.init)
        return text.flatMap { Repository.isCommit($0) ? $0 : nil }
    }

    func snapshot(_ commit: String) -> String { folder + "/snapshots/" + commit }

    /// A file of a commit, where it is there.
    func file(_ name: String, _ commit: String) -> String? {
        let path = snapshot(commit) + "/" + name
        return RepositoryListing.isRelative(name) && Files.exists(path) ? path : nil
    }

    /// Whether it is known of a file that it is there or that there is none.
    func isSettled(_ name: String, _ commit: String) -> Bool {
        file(name, commit) != nil || Files.exists(folder + "/.no_exist/" + commit + "/" + name)
    }

    func noteMissing(_ names: [String], _ commit: String) throws {
        let folder = folder + "/.no_exist/" + commit
        try Files.makeFolder(folder)
        for name in names { try Files.write("", to: folder + "/" + name) }
    }

    /// To be called when all files are there, so that a branch never leads to half a snapshot.
    func noteCommit(_ commit: String) throws {
        guard revision != commit, self.commit != commit else { return }
        let path = folder + "/refs/" + revision
        try Files.makeFolder(Self.parent(path))
        try Files.write(commit, to: path)
    }

    func blob(_ entityTag: String) -> String { folder + "/blobs/" + entityTag }

    /// Makes folders, and where the lock of a blob is.
    func prepare(for entityTag: String) throws -> String {
        try Files.makeFolder(folder + "/blobs")
        try Files.makeFolder(locks)
        return locks + "/" + entityTag + ".lock"
    }

    /// Makes folders, and where a file of a commit is to stand, with the link that leads from there to its blob.
    func prepareLink(_ name: String, _ commit: String, to entityTag: String) throws -> (path: String, target: String) {
        let path = snapshot(commit) + "/" + name
        try Files.makeFolder(Self.parent(path))
        let depth = name.split(separator: "/").count + 1
        return (path, String(repeating: "../", count: depth) + "blobs/" + entityTag)
    }

    private static func parent(_ path: String) -> String {
        String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
    }
}

/// What the hub says of a repository at one commit.
struct RepositoryListing {
    let commit: String
    /// Names of files to their sizes, where given.
    let files: [String: Int?]

    /// Reads the answer of `/api/models/OWNER/NAME/revision/REVISION?blobs=true`.
    init(parsing answer: [UInt8], _ what: String) throws {
        let json: JSON
        do {
            json = try answer.withUnsafeBytes { try JSON(parsing: $0) }
        } catch {
            throw HubError.model("\(what): the hub's answer is not sound JSON: \(error)")
        }
        guard let commit = json["sha"]?.string, Repository.isCommit(commit), let siblings = json["siblings"]?.array
        else {
            throw HubError.model("\(what): the hub's answer names no commit, or no files")
        }
        self.commit = commit
        var files: [String: Int?] = [:]
        for sibling in siblings {
            // Names that would lead out of the folder are none.
            guard let name = sibling["rfilename"]?.string, Self.isRelative(name) else { continue }
            files.updateValue(sibling["size"]?.integer ?? sibling["lfs"]?["size"]?.integer, forKey: name)
        }
        self.files = files
    }

    static func isRelative(_ name: String) -> Bool {
        !name.unicodeScalars.contains { $0.value < 0x20 || $0 == "\\" }
            && name.split(separator: "/", omittingEmptySubsequences: false)
                .allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." && $0.utf8.count < 256 }
    }
}

/// Which files of a repository make a model, in the order in which CLIPModel looks for them.
enum ModelFiles {
    static let configurations = ["config.json", "open_clip_config.json"]
    static let preprocessors = ["preprocessor_config.json", "processor_config.json"]
    static let tokenizers = [
        "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
        "merges.txt", "vocab.txt", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model",
    ]
    static let small = configurations + preprocessors + tokenizers

    static let transformers = [
        "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
    ]
    static let openCLIP = [
        "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin",
        "open_clip_pytorch_model.pth", "model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth",
    ]
    /// What open_clip fetches of weights that it knows: `download_pretrained_from_hf`.
    static let known = ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]

    /// The weights to take, or the index of several.
    ///
    /// - Parameter isTransformers: whether config.json is a model's of transformers; timm's repositories have one of
    ///   timm's.
    static func weights(isTransformers: Bool, _ isThere: (String) -> Bool) -> String? {
        if isTransformers, let name = transformers.first(where: isThere) { return name }
        return isThere(configurations[1]) ? openCLIP.first(where: isThere) : nil
    }

    /// Whether config.json says what kind of model of transformers it is of.
    static func isTransformers(_ config: String?) -> Bool { config.flatMap(json)?["model_type"]?.string != nil }

    /// The files that an index names.
    static func shards(_ index: String) -> [String] {
        guard case .object(let members)? = json(index)?["weight_map"] else { return [] }
        return Set(members.compactMap(\.value.string)).sorted()
    }

    /// The repository of the tokenizer that an open_clip_config.json names.
    static func tokenizerRepository(_ configuration: JSON) -> String? {
        configuration["text_cfg"]?["hf_tokenizer_name"]?.string
    }

    static func json(_ path: String) -> JSON? {
        guard let file = try? MappedFile(path: path) else { return nil }
        return file.withBytes { try? JSON(parsing: $0) }
    }
}
