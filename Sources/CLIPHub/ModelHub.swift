// Models by name: where they are on this machine, and how they get there.
import Checkpoints

/// A model on this machine.
package struct LocalModel: Sendable {
    /// A folder, or a file of weights.
    package var path: String
    /// For weights that open_clip knows: what open_clip_config.json would say, and that this is where it was read.
    package var known: (configuration: JSON, source: String)?
    /// Where the tokenizer's files are, where they are not beside the weights.
    package var tokenizerFolder: String?
}

/// One line of the list of models.
package struct ListedModel: Sendable {
    package var name: String
    /// Of what is or would be on the disk, in bytes; none where nobody knows it yet.
    package var size: Int?
    /// Of both towers, where known.
    package var parameters: Int?
    package var licence: String?
    /// Pixels a side.
    package var imageSize: Int?
    /// Numbers in an embedding.
    package var dimension: Int?
    /// Where it is on this machine.
    package var path: String?
}

/// Finds models in the caches of openai-clip and huggingface_hub, and fetches them into those.
package final class ModelHub {
    private let settings: HubSettings
    private var client: HTTPClient?

    package init(_ settings: HubSettings = .current) { self.settings = settings }

    /// Where a model is, fetched first where it is not on this machine.
    package func resolve(_ name: ModelName, _ progress: @escaping ProgressHandler) throws -> LocalModel {
        if let model = local(name) { return model }
        do {
            return try download(name, progress)
        } catch let error as HubError {
            // Another tool fetched it, and nobody can say now whether something small is missing, or note that nothing is.
            if let model = local(name, isStrict: false) { return model }
            throw error
        }
    }

    /// Fetches a model, or what is missing of it, and verifies what openai-clip has left.
    ///
    /// - Throws: `HubError`, and what `progress` throws.
    package func download(_ name: ModelName, _ progress: @escaping ProgressHandler) throws -> LocalModel {
        switch name {
        case .openAI(let model): try fetch(model, name.text, progress)
        case .openCLIP(let weights): try fetch(weights, name.text, progress)
        case .hub(let identifier, let revision): try fetch(identifier, revision, name.text, progress)
        }
    }

    /// Where a model is on this machine; none where it is not, or not whole. Asks nobody.
    package func local(_ name: ModelName) -> LocalModel? { local(name, isStrict: true) }

    /// - Parameter isStrict: whether it must be known of each of the small files that it is there or that there is none.
    private func local(_ name: ModelName, isStrict: Bool) -> LocalModel? {
        switch name {
        case .openAI(let model):
            let path = settings.clipCache + "/" + model.file
            // openai-clip writes under the final name, so that what it was interrupted in looks like a model.
            return Files.size(path) == model.size ? LocalModel(path: path) : nil
        case .openCLIP(let weights):
            guard let repository = Repository(weights.repository) else { return nil }
            let cache = CachedRepository(repository, settings)
            guard let commit = cache.commit,
                let path = ModelFiles.known.lazy.compactMap({ cache.file($0, commit) }).first
            else { return nil }
            guard let tokenizer = weights.tokenizer else { return known(weights, path, tokenizerFolder: nil) }
            guard let folder = tokenizerFolder(tokenizer, isStrict: isStrict) else { return nil }
            return known(weights, path, tokenizerFolder: folder)
        case .hub(let identifier, let revision):
            guard let repository = Repository(identifier, revision: revision) else { return nil }
            let cache = CachedRepository(repository, settings)
            guard let commit = cache.commit,
                let weights = ModelFiles.weights(
                    isTransformers: ModelFiles.isTransformers(cache.file("config.json", commit)),
                    { cache.file($0, commit) != nil }),
                weightFiles(weights, cache, commit).allSatisfy({ cache.file($0, commit) != nil }),
                !isStrict || ModelFiles.small.allSatisfy({ cache.isSettled($0, commit) })
            else { return nil }
            var model = LocalModel(path: cache.snapshot(commit))
            if let tokenizer = foreignTokenizer(cache, commit) {
                guard let folder = tokenizerFolder(tokenizer, isStrict: isStrict) else { return isStrict ? nil : model }
                model.tokenizerFolder = folder
            }
            return model
        }
    }

    /// Every model that has a name, and those of the hub that are on this machine.
    package func list() -> [ListedModel] {
        var models = OpenAIModel.all.map { model in
            ListedModel(
                name: model.name, size: model.size, parameters: model.parameters, licence: "MIT",
                imageSize: model.imageSize, dimension: model.dimension, path: local(.openAI(model))?.path)
        }
        models += ModelTable.current.weights.map { weights in
            let path = local(.openCLIP(weights), isStrict: false)?.path
            return ListedModel(
                name: weights.name, size: path.flatMap(Files.size), parameters: weights.parameters,
                licence: weights.licence, imageSize: weights.imageSize, dimension: weights.dimension, path: path)
        }
        for folder in Files.names(in: settings.hubCache).sorted() where folder.hasPrefix("models--") {
            let identifier = folder.dropFirst("models--".count).replacing("--", with: "/")
            guard let name = try? ModelName("hf:" + identifier), let model = local(name, isStrict: false),
                let description = pictureAndText(model.path)
            else { continue }
            let files = Files.names(in: model.path).compactMap { Files.size(model.path + "/" + $0) }
            models.append(
                ListedModel(
                    name: name.text, size: files.reduce(0, +), imageSize: description.imageSize,
                    dimension: description.dimension, path: model.path))
        }
        return models
    }

    /// What a snapshot's configuration states, where it looks like one of ours; the cache holds models of every kind.
    private func pictureAndText(_ folder: String) -> (imageSize: Int?, dimension: Int?)? {
        if let config = ModelFiles.json(folder + "/config.json"), let vision = config["vision_config"],
            config["text_config"] != nil
        {
            return (vision["image_size"]?.integer, config["projection_dim"]?.integer)
        }
        guard let model = ModelFiles.json(folder + "/open_clip_config.json")?["model_cfg"] else { return nil }
        return (model["vision_cfg"]?["image_size"]?.integer, model["embed_dim"]?.integer)
    }

    // MARK: OpenAI's

    private func fetch(_ model: OpenAIModel, _ name: String, _ progress: @escaping ProgressHandler) throws -> LocalModel
    {
        let path = settings.clipCache + "/" + model.file
        let transfer = FileTransfer(
            url: "\(settings.openAIEndpoint)/\(model.sha256)/\(model.file)", model: name, name: model.file,
            folder: settings.clipCache, size: nil, digest: .sha256(model.sha256), destination: path, isSuspect: true,
            lockPath: settings.clipCache + "/.locks/" + model.file + ".lock")
        let report = TransferProgress(model: name, file: model.file, folder: settings.clipCache, bytes: 0)
        if try transfer.isThere({ try progress(report) }) { return LocalModel(path: path) }
        if settings.isOffline, Files.exists(path) {
            throw HubError.model(
                "\(path) is not what OpenAI published as \(name), and HF_HUB_OFFLINE says that nothing is fetched")
        }
        let client = try online(name)
        try Files.makeFolder(settings.clipCache + "/.locks")
        try transfer.run(client, settings, progress)
        return LocalModel(path: path)
    }

    // MARK: open_clip's

    private func fetch(
        _ weights: OpenCLIPWeights, _ name: String, _ progress: @escaping ProgressHandler
    ) throws -> LocalModel {
        let client = try online(name)
        let source = try Source(weights.repository, "main", name, settings)
        let listing = try list(source, client, progress)
        guard let file = ModelFiles.known.first(where: { listing.files[$0] != nil }) else {
            throw HubError.model(
                "\(name): \(weights.repository) holds neither \(ModelFiles.known.joined(separator: " nor "))")
        }
        try fetch([file], of: source, listing, client, progress)
        try source.cache.noteCommit(listing.commit)
        let folder = try weights.tokenizer.map { try fetchTokenizer($0, name, client, progress) }
        return known(weights, source.cache.snapshot(listing.commit) + "/" + file, tokenizerFolder: folder)
    }

    private func known(_ weights: OpenCLIPWeights, _ path: String, tokenizerFolder: String?) -> LocalModel {
        LocalModel(
            path: path, known: (weights.configuration, "known weights (open_clip's table)"),
            tokenizerFolder: tokenizerFolder)
    }

    // MARK: The hub's

    private func fetch(
        _ identifier: String, _ revision: String, _ name: String, _ progress: @escaping ProgressHandler
    ) throws -> LocalModel {
        let client = try online(name)
        let source = try Source(identifier, revision, name, settings)
        let listing = try list(source, client, progress)
        let cache = source.cache
        let commit = listing.commit
        func isThere(_ file: String) -> Bool { listing.files[file] != nil }
        try fetch(ModelFiles.configurations.filter(isThere), of: source, listing, client, progress)
        guard
            let weights = ModelFiles.weights(
                isTransformers: ModelFiles.isTransformers(cache.file("config.json", commit)), isThere)
        else {
            throw HubError.model(
                "\(name) holds no model that can be opened: expected config.json of transformers or open_clip_config.json, "
                    + "and \(ModelFiles.transformers[0]), \(ModelFiles.openCLIP[0]) or the like; found "
                    + listing.files.keys.sorted().prefix(8).joined(separator: ", "))
        }
        try fetch(ModelFiles.small.filter(isThere), of: source, listing, client, progress)
        try fetch([weights], of: source, listing, client, progress)
        let shards = weightFiles(weights, cache, commit)
        guard !shards.isEmpty else { throw HubError.model("\(name): \(weights) names no files of weights") }
        if let missing = shards.first(where: { !isThere($0) }) {
            throw HubError.model("\(name): \(weights) names \(quoted(missing)), which the repository lacks")
        }
        try fetch(shards, of: source, listing, client, progress)
        try cache.noteMissing(ModelFiles.small.filter { !isThere($0) }, commit)
        try cache.noteCommit(commit)
        let tokenizer = try foreignTokenizer(cache, commit).map { try fetchTokenizer($0, name, client, progress) }
        return LocalModel(path: cache.snapshot(commit), tokenizerFolder: tokenizer)
    }

    /// A file of weights, or those that an index names.
    private func weightFiles(_ weights: String, _ cache: CachedRepository, _ commit: String) -> [String] {
        guard weights.hasSuffix(".index.json"), let index = cache.file(weights, commit) else { return [weights] }
        return ModelFiles.shards(index)
    }

    /// Another repository's tokenizer, which an open_clip_config.json names without holding its files.
    private func foreignTokenizer(_ cache: CachedRepository, _ commit: String) -> String? {
        guard !ModelFiles.isTransformers(cache.file("config.json", commit)),
            !ModelFiles.tokenizers.contains(where: { cache.file($0, commit) != nil }),
            let configuration = cache.file("open_clip_config.json", commit).flatMap(ModelFiles.json)?["model_cfg"]
        else { return nil }
        return ModelFiles.tokenizerRepository(configuration)
    }

    private func tokenizerFolder(_ identifier: String, isStrict: Bool) -> String? {
        guard let repository = Repository(identifier) else { return nil }
        let cache = CachedRepository(repository, settings)
        guard let commit = cache.commit, ModelFiles.tokenizers.contains(where: { cache.file($0, commit) != nil }),
            !isStrict || ModelFiles.tokenizers.allSatisfy({ cache.isSettled($0, commit) })
        else { return nil }
        return cache.snapshot(commit)
    }

    private func fetchTokenizer(
        _ identifier: String, _ name: String, _ client: HTTPClient, _ progress: @escaping ProgressHandler
    ) throws -> String {
        let source = try Source(identifier, "main", name, settings)
        let listing = try list(source, client, progress)
        let files = (ModelFiles.tokenizers + ["config.json"]).filter { listing.files[$0] != nil }
        try fetch(files, of: source, listing, client, progress)
        try source.cache.noteMissing(ModelFiles.tokenizers.filter { listing.files[$0] == nil }, listing.commit)
        try source.cache.noteCommit(listing.commit)
        return source.cache.snapshot(listing.commit)
    }

    // MARK: Requests

    /// A repository, its place in the cache, and the model's name for errors.
    private struct Source {
        let repository: Repository
        let cache: CachedRepository
        let model: String

        init(_ identifier: String, _ revision: String, _ model: String, _ settings: HubSettings) throws {
            guard let repository = Repository(identifier, revision: revision) else {
                throw HubError.model("\(model): \(quoted(identifier)) at \(quoted(revision)) is no name of the hub")
            }
            self.repository = repository
            self.model = model
            cache = CachedRepository(repository, settings)
        }
    }

    /// The client, unless nothing may be fetched.
    private func online(_ name: String) throws -> HTTPClient {
        if settings.isOffline {
            throw HubError.model("\(name) is not on this machine, and HF_HUB_OFFLINE says that nothing is fetched")
        }
        if let client { return client }
        let client = try HTTPClient(settings)
        self.client = client
        return client
    }

    private func list(
        _ source: Source, _ client: HTTPClient, _ progress: @escaping ProgressHandler
    ) throws -> RepositoryListing {
        let revision = Self.escaped(source.repository.revision, keepsSlashes: false)
        let url = "\(settings.endpoint)/api/models/\(source.repository.identifier)/revision/\(revision)?blobs=true"
        var answer: [UInt8] = []
        _ = try repeating(source, "the list of files", progress) { tick in
            try client.send(
                url, onHead: { _ in answer.removeAll() },
                onBody: { bytes in
                    if answer.count + bytes.count > 1 << 25 { throw HubError.model("\(url) answers without end") }
                    answer += bytes
                }, tick: tick)
        }
        return try RepositoryListing(parsing: answer, source.model)
    }

    /// Fetches the files that the cache lacks.
    private func fetch(
        _ names: [String], of source: Source, _ listing: RepositoryListing, _ client: HTTPClient,
        _ progress: @escaping ProgressHandler
    ) throws {
        for name in names where source.cache.file(name, listing.commit) == nil {
            let url =
                "\(settings.endpoint)/\(source.repository.identifier)/resolve/\(listing.commit)/"
                + Self.escaped(name, keepsSlashes: true)
            // What describes the bytes stands in the hub's own response, not in that of whoever keeps them.
            let origin = client.origin(settings.endpoint)
            let head = try repeating(source, name, progress) { tick in
                try client.send(
                    url, headersOnly: true,
                    follows: { $0.fields["x-linked-etag"] == nil && client.origin($1) == origin }, tick: tick)
            }
            let entityTag = Self.normalized(head.fields["x-linked-etag"] ?? head.fields["etag"] ?? "")
            guard RepositoryListing.isRelative(entityTag), !entityTag.contains("/") else {
                throw HubError.model("\(source.model): the hub names no entity tag for \(name)")
            }
            let isRedirect = head.redirect != nil
            let size =
                head.fields["x-linked-size"].flatMap { Int($0) }
                ?? (isRedirect ? listing.files[name] ?? nil : head.fields["content-length"].flatMap { Int($0) })
            let lock = try source.cache.prepare(for: entityTag)
            try FileTransfer(
                url: url, model: source.model, name: name, folder: settings.hubCache, size: size,
                digest: Digest(entityTag: entityTag), destination: source.cache.blob(entityTag), lockPath: lock,
                link: source.cache.prepareLink(name, listing.commit, to: entityTag)
            ).run(client, settings, progress)
        }
    }

    /// A small request, repeated where the server or the connection fails for the moment.
    private func repeating(
        _ source: Source, _ what: String, _ progress: @escaping ProgressHandler,
        _ body: (@escaping () throws -> Void) throws -> ResponseHead
    ) throws -> ResponseHead {
        let report = TransferProgress(model: source.model, file: what, folder: settings.hubCache, bytes: 0)
        let tick = { try progress(report) }
        let subject = "\(source.model): \(what)"
        var failures = 0
        while true {
            do {
                return try body(tick)
            } catch let error as StatusError {
                failures += 1
                guard error.isTransient, failures < settings.attempts else {
                    throw HubError.status(error, subject, settings)
                }
            } catch let error as TransportError {
                failures += 1
                guard error.isTransient, failures < settings.attempts else {
                    throw HubError.request(error, subject, settings)
                }
            }
            try pause(failures, settings, tick)
        }
    }

    /// An entity tag as huggingface_hub uses it for a file's name.
    private static func normalized(_ tag: String) -> String {
        String(tag.drop { $0 == "W" || $0 == "/" }.drop { $0 == "\"" }.prefix { $0 != "\"" })
    }

    /// Percent-encoded for an address.
    private static func escaped(_ text: String, keepsSlashes: Bool) -> String {
        let digits = Array("0123456789ABCDEF".utf8)
        var result: [UInt8] = []
        for byte in text.utf8 {
            let isPlain =
                (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                || "-._~".utf8.contains(byte) || (keepsSlashes && byte == UInt8(ascii: "/"))
            result += isPlain ? [byte] : [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
        }
        return String(decoding: result, as: UTF8.self)
    }
}
