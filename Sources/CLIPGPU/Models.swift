// Models by name: the list of them, and their downloads.

import CLIPHub

/// How far a download is.
public struct DownloadProgress: Sendable {
    /// Told at least once a second while something is under way. What it throws ends the download and is thrown on; what
    /// has arrived is kept, and the next download goes on from there.
    public typealias Handler = (DownloadProgress) throws -> Void

    /// The model's name as it was asked for.
    public let model: String
    /// The file under way.
    public let file: String
    /// Where such models are kept.
    public let folder: String
    /// Bytes of the file that are here.
    public let bytes: Int
    /// The file's bytes; none where nobody has said it yet.
    public let total: Int?
    /// Whether another process is fetching the same file, and this one waits.
    public let isWaiting: Bool

    static func forwarding(to handler: Handler?) -> ProgressHandler {
        { progress in
            try handler?(
                DownloadProgress(
                    model: progress.model, file: progress.file, folder: progress.folder, bytes: progress.bytes,
                    total: progress.total, isWaiting: progress.isWaiting))
        }
    }
}

/// A model that can be loaded by its name.
public struct NamedModel: Sendable {
    /// `ViT-B/32`, `ViT-B-32/laion2b_s34b_b79k` or `hf:owner/name`.
    public let name: String
    /// Bytes of the download, or of what is on the disk; none where nobody has said it yet.
    public let size: Int?
    /// Parameters of both towers, where known; four bytes each make most downloads.
    public let parameters: Int?
    /// Where known.
    public let licence: String?
    /// Side of the square picture, in pixels, where known.
    public let imageSize: Int?
    /// Numbers in one embedding, where known.
    public let embeddingDimension: Int?
    /// Where it is on this machine; none where it is not.
    public let path: String?
}

extension CLIP {
    /// Models that have names: OpenAI's, open_clip's, and those of Hugging Face's hub that are on this machine.
    public static func models() -> [NamedModel] {
        ModelHub().list().map {
            NamedModel(
                name: $0.name, size: $0.size, parameters: $0.parameters, licence: $0.licence, imageSize: $0.imageSize,
                embeddingDimension: $0.dimension, path: $0.path)
        }
    }

    /// Fetches a model, or what is missing of it, into the cache that openai-clip, open_clip and transformers use too.
    ///
    /// - Returns: where it is: a folder or a file.
    /// - Throws: `CLIPError` with the code `.model`, or `.output` where it cannot be kept; and what `progress` throws.
    @discardableResult
    public static func download(_ name: String, progress: DownloadProgress.Handler? = nil) throws -> String {
        try translatingErrors {
            try ModelHub().download(ModelName(name), DownloadProgress.forwarding(to: progress)).path
        }
    }
}
