// index: a collection brought up to date. What has not changed keeps its row; the rest is embedded.

import Checkpoints

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A file's size and time of its last change: where both are as they were, its content is taken to be.
struct FileStamp: Sendable, Hashable {
    let bytes: Int
    /// Nanoseconds since 1970; negative before.
    let modified: Int

    init(bytes: Int, modified: Int) {
        self.bytes = bytes
        self.modified = modified
    }

    /// None where there is no such file.
    init?(path: String) {
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        #if canImport(Darwin)
        let time = status.st_mtimespec
        #else
        let time = status.st_mtim
        #endif
        self.init(bytes: Int(status.st_size), modified: Int(time.tv_sec) &* 1_000_000_000 &+ Int(time.tv_nsec))
    }
}

/// What an update of a collection did.
public struct CollectionChange: Sendable, Equatable {
    /// Rows computed.
    public internal(set) var added = 0
    /// Rows taken over.
    public internal(set) var kept = 0
    /// Rows of the old file whose input is gone, or was computed anew.
    public internal(set) var removed = 0
    /// Inputs that left no row.
    public internal(set) var failed = 0
    /// Whether it was ended before all inputs were seen; the rows of those that were not are still there.
    public internal(set) var isInterrupted = false
}

/// A collection file that is to hold the rows of given inputs.
public struct CollectionUpdate: Sendable {
    /// The file.
    public let path: String
    /// Why nothing of the old file is used, where there is one: other settings, or a file that cannot be read. A sentence.
    public let reasonToStartAnew: String?
    private let inputs: EmbeddingInputs
    private let options: PreparationOptions
    private let metadata: [(String, String)]
    private let old: EmbeddingCollection?
    private let known: KnownRows

    /// Rows by the names of their inputs.
    private struct KnownRows: Sendable {
        struct Row: Sendable {
            let row: Int
            let stamp: FileStamp
        }
        private var first: [String: Row] = [:]
        /// Of names that several rows have, all rows: inputs named twice, members of archives of one name.
        private var shared: [String: [Row]] = [:]

        mutating func add(_ name: String, _ row: Row) {
            if let before = first.updateValue(row, forKey: name) {
                first[name] = before
                shared[name, default: [before]].append(row)
            }
        }

        /// The next row of that name.
        mutating func next(_ name: String) -> Row? {
            guard var rows = shared[name] else { return first[name] }
            defer { shared[name] = rows }
            return rows.isEmpty ? nil : rows.removeFirst()
        }
    }

    /// Reads what the file has so far.
    ///
    /// - Parameters:
    ///   - path: a `.safetensors`, which need not exist yet.
    ///   - inputs: all that the collection is to hold, in its order.
    ///   - model: what will be written into the file as its model.
    ///   - settings: what else the rows depend on, such as the precision: rows made with other settings are not used.
    ///   - options: how pictures are prepared; a setting too.
    /// - Throws: `CLIPError` with the code `.output` for another kind of file.
    public init(
        path: String, inputs: EmbeddingInputs, model: String, settings: [(String, String)] = [],
        options: PreparationOptions = PreparationOptions()
    ) throws {
        guard EmbeddingFormat(path: path) == .safetensors else {
            throw CLIPError(
                .output,
                "\(path) does not end in .safetensors, the one format that says which model made it; give such a name.")
        }
        self.path = path
        self.inputs = inputs
        self.options = options
        metadata = [("model", model)] + settings + [("exif", "\(options.followsEXIF)")]
        var (old, known, reason): (EmbeddingCollection?, KnownRows, String?) = (nil, KnownRows(), nil)
        if fileExists(path) {
            do {
                let collection = try EmbeddingCollection(contentsOf: path)
                // Settings that only one of the two has are the model's own in the other.
                let wanted = Dictionary(metadata) { first, _ in first }
                let other = Set(wanted.keys).union(collection.metadata.keys).sorted()
                    .filter { wanted[$0] != collection.metadata[$0] }
                    .map {
                        "\($0) \(collection.metadata[$0] ?? "of the model's own"), not \(wanted[$0] ?? "the model's own")"
                    }
                if !other.isEmpty {
                    reason = "\(path) was made with \(other.joined(separator: " and "))."
                } else if let names = collection.names {
                    for row in 0..<collection.count {
                        let entry = try names.entry(row)
                        if let stamp = entry.stamp { known.add(entry.name, KnownRows.Row(row: row, stamp: stamp)) }
                    }
                    old = collection
                } else {
                    reason = "\(path)\(EmbeddingCollection.namesSuffix) is missing, which says what its rows are."
                }
            } catch let error as CLIPError {
                reason = error.description
            }
        }
        (self.old, self.known, reasonToStartAnew) = (old, known, reason)
    }

    /// Whether the file is as it should be already; none where only reading all inputs tells (archives, tensors, paths
    /// on standard input).
    public func isUpToDate() -> Bool? {
        guard let old else { return false }
        if inputs.count() == nil { return nil }
        var row = 0
        var rows = known
        for input in inputs {
            // In the same order too.
            guard case .file(let path) = input.content, let known = rows.next(input.name), known.row == row,
                known.stamp == FileStamp(path: path)
            else { return false }
            row += 1
        }
        return row == old.count
    }

    /// Embeds what is new or changed, and writes the file anew. The rows below a folder or an archive that cannot be read
    /// stay: a disk that is not there is no reason to forget its pictures.
    ///
    /// - Parameters:
    ///   - clip: the model that the file's metadata name.
    ///   - batchSize: inputs computed together; by default what fills the device.
    ///   - shouldStop: asked between inputs; once true, the file is written with what there is, old rows included.
    ///   - onResult: called for each input that was embedded or failed.
    /// - Throws: `CLIPError`, and what `onResult` throws; the old file is then as it was.
    public func run(
        _ clip: CLIP, batchSize: Int? = nil, shouldStop: () -> Bool = { false },
        onResult: (EmbeddingResult) throws -> Void = { _ in }
    ) throws -> CollectionChange {
        let dimension = clip.information.embeddingDimension
        let old = old?.dimension == dimension ? old : nil
        let writer = try EmbeddingWriter(path: path, format: .safetensors, dimension: dimension, metadata: metadata)
        defer { writer.abandon() }  // Nothing, once it is finished.
        var change = CollectionChange()
        var isUsed = [Bool](repeating: false, count: old?.count ?? 0)
        /// Rows whose input was computed anew.
        var isReplaced = isUsed
        let plan = Plan(known: old == nil ? KnownRows() : known)
        let below = RowsBelow(old?.names)

        func keep(_ row: Int, _ name: String, _ stamp: FileStamp?, _ kind: EmbeddingInput.Kind = .image) throws {
            guard let old else { return }
            try writer.append(old.row(row)[...], input: name, kind: kind, stamp: stamp)
            isUsed[row] = true
            change.kept += 1
        }
        func keepUnseen(_ row: Int) throws {
            guard let entry = try old?.names?.entry(row), !isUsed[row], !isReplaced[row] else { return }
            try keep(row, entry.name, entry.stamp, entry.kind)
        }
        /// Writes the rows that stand before the next new one, and returns what is known of that.
        func keepUpToNext() throws -> (stamp: FileStamp?, replaced: Int?) {
            while let entry = plan.entries.popFirst() {
                switch entry {
                case .old(let row, let name, let stamp): try keep(row, name, stamp)
                case .new(let stamp, let replaced): return (stamp, replaced)
                }
            }
            return (nil, nil)
        }

        try clip.embed(
            ChangedInputs(inputs, plan), batchSize: batchSize, options: options,
            shouldStop: shouldStop
        ) { result in
            let (stamp, replaced) = try keepUpToNext()
            switch result.embedding {
            case .success(let embedding):
                try writer.append(embedding, input: result.name, kind: result.kind, stamp: stamp)
                change.added += 1
                if let replaced { isReplaced[replaced] = true }
            case .failure:
                change.failed += 1
                for row in try below.rows(result.name) { try keepUnseen(row) }
            }
            try onResult(result)
        }
        change.isInterrupted = shouldStop()
        if change.isInterrupted, let old {
            // The rows of inputs that were not seen: the next update finds them.
            for row in 0..<old.count { try keepUnseen(row) }
        } else {
            while let entry = plan.entries.popFirst() {
                if case .old(let row, let name, let stamp) = entry { try keep(row, name, stamp) }
            }
        }
        change.removed = isUsed.count { !$0 }
        try writer.finish()
        return change
    }

    /// What is to be written, in order: filled as the inputs are read, emptied as rows are written.
    private final class Plan {
        enum Entry {
            case old(row: Int, name: String, FileStamp)
            /// The next that is embedded, and the row of what it was before, where there is one.
            case new(FileStamp?, replaced: Int?)
        }
        private var known: KnownRows
        /// The row that `keeps` last found and did not keep.
        private(set) var replaced: Int?
        var entries = Queue<Entry>()

        /// Of the file asked for last: an archive's members come one after the other.
        private var last: (path: String, stamp: FileStamp?)?

        init(known: KnownRows) { self.known = known }

        func stamp(of path: String) -> FileStamp? {
            if let last, last.path == path { return last.stamp }
            let stamp = FileStamp(path: path)
            last = (path, stamp)
            return stamp
        }

        /// Whether there is a row of this input, made from the file as it is now; it is then written.
        func keeps(_ name: String, _ stamp: FileStamp?) -> Bool {
            let known = known.next(name)
            replaced = known?.row
            guard let stamp, let known, known.stamp == stamp else { return false }
            entries.append(.old(row: known.row, name: name, stamp))
            return true
        }
    }

    /// The rows of what lies below a folder, in an archive or in a tensor.
    private final class RowsBelow {
        private let names: InputNames?
        /// All rows in the order of their names' bytes, once that is asked for.
        private lazy var sorted: [(name: [UInt8], row: Int)] = {
            guard let names else { return [] }
            return (0..<names.count).compactMap { row in (try? names.name(row)).map { (Array($0.utf8), row) } }
                .sorted { $0.name.lexicographicallyPrecedes($1.name) }
        }()

        init(_ names: InputNames?) { self.names = names }

        /// In the order of the file.
        func rows(_ path: String) throws -> [Int] {
            if names == nil { return [] }
            let folder = Array(folderPrefix(path).utf8)
            let tensor = Array((path + "[").utf8)
            return [folder, tensor].flatMap { prefix in
                // The first that is not before the prefix.
                var (low, high) = (0, sorted.count)
                while low < high {
                    let middle = (low + high) / 2
                    if sorted[middle].name.lexicographicallyPrecedes(prefix) { low = middle + 1 } else { high = middle }
                }
                return sorted[low...].prefix { $0.name.starts(with: prefix) }.map(\.row)
            }.sorted()
        }
    }

    /// The inputs that must be embedded.
    private struct ChangedInputs: Sequence, IteratorProtocol {
        private var inputs: EmbeddingInputs.Iterator
        private let plan: Plan

        init(_ inputs: EmbeddingInputs, _ plan: Plan) {
            self.inputs = inputs.makeIterator()
            self.plan = plan
            self.inputs.passesOver = { name, archive in plan.keeps(name, plan.stamp(of: archive)) }
        }

        mutating func next() -> EmbeddingInput? {
            while let input = inputs.next() {
                let stamp = input.file.flatMap(plan.stamp)
                // A member of an archive was asked for before it was read.
                if case .bytes = input.content {} else if plan.keeps(input.name, stamp) { continue }
                plan.entries.append(.new(stamp, replaced: plan.replaced))
                return input
            }
            return nil
        }
    }
}
