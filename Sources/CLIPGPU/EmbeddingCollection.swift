// Collections: rows that `embed` and `index` wrote, or anybody's array of vectors, searched by cosine.
//
// The search is exact: every row is looked at, which memory limits (a million rows of 512 numbers are 2 GB). Nothing is built
// beforehand, and nothing but the file is needed.

import CLIPCompute
import CLIPModel
import Checkpoints
import Dispatch
import Synchronization

/// Vectors in a file, mapped, and what each of them is.
public struct EmbeddingCollection: Sendable {
    /// A row that a search found.
    public struct Match: Sendable, Equatable {
        /// Its number in the file, from 0.
        public let row: Int
        /// What it was made from, as `embed` names it; `FILE[row]` where no `FILE.inputs.jsonl` says.
        public let input: String
        /// The cosine of the angle to the query, from -1 to 1.
        public let cosine: Float
    }

    /// The file.
    public let path: String
    /// Rows.
    public let count: Int
    /// Numbers in a row.
    public let dimension: Int
    /// What the file says of itself: `model` is what made the rows, as it was named then.
    public let metadata: [String: String]
    let names: InputNames?
    private let rows: StoredTensor
    private let elementType: ElementType

    /// Opens a `.safetensors` or `.npy` of floats `[n, dimension]`. `PATH.inputs.jsonl` says what the rows are, where
    /// there is one.
    ///
    /// - Throws: `CLIPError` with the code `.input`.
    public init(contentsOf path: String) throws {
        self.path = path
        do {
            if path.hasSuffix(".npy") {
                rows = try Numpy.open(path: path)
                metadata = [:]
            } else if path.hasSuffix(".jsonl") || path.hasSuffix(".csv") {
                throw CheckpointError(
                    "\(path) holds its rows as text, which takes long to read: write them to a .safetensors or .npy instead"
                )
            } else {
                let file = try Safetensors.open(path: path)
                guard let tensor = file[Self.tensorName] ?? (file.tensors.count == 1 ? file.tensors[0] : nil) else {
                    throw CheckpointError(
                        "\(path) has no tensor \(Self.tensorName) among its \(file.tensors.count): expected what "
                            + "`clip-gpu embed` or `clip-gpu index` writes")
                }
                rows = tensor
                metadata = file.metadata
            }
            guard rows.shape.count == 2, rows.shape[1] > 0, let type = rows.type.elementType else {
                throw CheckpointError(
                    "\(path) holds \(rows.type.rawValue) of the shape \(rows.shape): expected floats as [n, dimension]")
            }
            elementType = type
            count = rows.shape[0]
            dimension = rows.shape[1]
            let beside = path + Self.namesSuffix
            names = fileExists(beside) ? try InputNames(path: beside) : nil
            if let names, names.count != count {
                throw CheckpointError(
                    "\(beside) names \(names.count) rows where \(path) has \(count): they do not belong together")
            }
        } catch let error as CheckpointError {
            throw CLIPError(.input, error.description + ".")
        }
    }

    static let tensorName = "embeddings"
    static let namesSuffix = ".inputs.jsonl"

    /// Rows as the file has them.
    public func rows(_ range: Range<Int>) -> Embeddings {
        let values = [Float](unsafeUninitializedCapacity: range.count * dimension) { buffer, initialized in
            initialized = range.count * dimension
            copy(range, into: UnsafeMutableBufferPointer(rebasing: buffer[..<initialized]))
        }
        return Embeddings(values: values, dimension: dimension)
    }

    /// What a row was made from, as `embed` names it; `FILE[row]` where no `FILE.inputs.jsonl` says.
    ///
    /// - Throws: `CLIPError` with the code `.input` where that file is damaged.
    public func input(_ row: Int) throws -> String { try names?.name(row) ?? "\(path)[\(row)]" }

    /// One row as the file has it.
    func row(_ index: Int) -> [Float] { rows(index..<(index + 1)).values }

    private func copy(_ range: Range<Int>, into buffer: UnsafeMutableBufferPointer<Float>) {
        rows.withBytes { bytes in
            HostTensor(shape: rows.shape, elementType: elementType, bytes: bytes, owner: nil)
                .copyFloats(from: range.lowerBound * dimension, into: buffer)
        }
    }

    /// The rows whose cosine to each query is greatest, the greatest first, equal ones by their number. Rows that are zero
    /// or not finite have no cosine and are never found. All cores search.
    ///
    /// - Parameters:
    ///   - queries: any number of vectors, of any length.
    ///   - count: how many to find for each.
    /// - Returns: for each query, as many as there are, at most `count`.
    /// - Throws: `CLIPError` with the code `.input` where the queries have another dimension.
    public func nearest(to queries: Embeddings, count wanted: Int) throws -> [[Match]] {
        guard queries.dimension == dimension else {
            throw CLIPError(
                .input,
                "\(path) has rows of \(dimension) numbers, and the queries have \(queries.dimension): another model made "
                    + "them\(metadata["model"].map { " (\($0))" } ?? "").")
        }
        let queries = queries.normalized()
        let wanted = max(0, min(wanted, count))
        let best = Mutex([Ranking](repeating: Ranking(limit: wanted), count: queries.count))
        let share = 512
        DispatchQueue.concurrentPerform(iterations: (count + share - 1) / share) { part in
            let range = (part * share)..<min((part + 1) * share, count)
            var found = best.withLock { $0.map { Ranking(limit: wanted, atLeast: $0.threshold) } }
            withUnsafeTemporaryAllocation(of: Float.self, capacity: range.count * dimension) { block in
                copy(range, into: block)
                queries.values.withUnsafeBufferPointer { queries in
                    guard let rows = block.baseAddress, let queries = queries.baseAddress else { return }
                    for row in range {
                        let vector = UnsafePointer(rows + (row - range.lowerBound) * dimension)
                        let length = dot(vector, vector, dimension).squareRoot()
                        guard length > 0, length.isFinite else { continue }
                        for index in found.indices {
                            let cosine = dot(queries + index * dimension, vector, dimension) / length
                            if cosine.isFinite { found[index].insert(cosine, row) }
                        }
                    }
                }
            }
            let ready = found
            best.withLock { best in
                for index in best.indices { best[index].merge(ready[index]) }
            }
        }
        return try best.withLock(\.self).map { ranking in
            try ranking.sorted().map { entry in
                Match(
                    row: entry.row, input: try input(entry.row),
                    cosine: max(-1, min(1, entry.cosine)))
            }
        }
    }
}

extension CLIP {
    private static let demonstrationName = "built-in demonstration model"

    /// How a file of vectors names the model that made it (its metadata's `model`): a name as it is, a path from the root.
    /// None and nothing are the demonstration model.
    public static func recordedName(of model: String?) -> String {
        guard let model, !model.isEmpty else { return demonstrationName }
        return absolutePath(model) ?? model
    }

    /// What changes when the files of a model that was recorded as a path do: how many, their bytes, and the last time
    /// that one was written; none for a name.
    public static func recordedFiles(of recorded: String) -> String? {
        guard recorded.hasPrefix("/") else { return nil }
        let paths = sortedEntries(of: recorded).map { $0.map { folderPrefix(recorded) + $0.name } } ?? [recorded]
        let stamps = paths.compactMap { FileStamp(path: $0) }
        return "\(stamps.count), \(stamps.reduce(0) { $0 &+ $1.bytes }) bytes, \(stamps.map(\.modified).max() ?? 0)"
    }

    /// What `load` takes for a model that was recorded so.
    public static func model(recordedAs name: String) -> String? { name == demonstrationName ? nil : name }
}

/// The greatest cosines seen. Twice as many as wanted are gathered, then sorted and cut: that is few comparisons for each,
/// however many are wanted.
private struct Ranking {
    private var entries: [(cosine: Float, row: Int)] = []
    private let limit: Int
    /// Below this, nothing is of interest.
    private(set) var threshold: Float

    init(limit: Int, atLeast threshold: Float = -.infinity) {
        self.limit = limit
        self.threshold = threshold
    }

    mutating func insert(_ cosine: Float, _ row: Int) {
        guard limit > 0, cosine >= threshold else { return }
        entries.append((cosine, row))
        guard entries.count == 2 * limit else { return }
        entries = sorted()
        threshold = entries[limit - 1].cosine
    }

    /// The greatest first, equal ones by their number, at most as many as wanted.
    func sorted() -> [(cosine: Float, row: Int)] {
        Array(entries.sorted { ($0.cosine, $1.row) > ($1.cosine, $0.row) }.prefix(limit))
    }

    mutating func merge(_ other: Ranking) {
        for entry in other.entries { insert(entry.cosine, entry.row) }
    }
}

/// Σ a b, in lanes: what the compiler makes vectors of.
func dot(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ count: Int) -> Float {
    typealias Lanes = SIMD16<Float>
    let (x, y) = (UnsafeRawPointer(a), UnsafeRawPointer(b))
    var (first, second) = (Lanes(), Lanes())
    var index = 0
    while index + 32 <= count {
        first +=
            x.loadUnaligned(fromByteOffset: index * 4, as: Lanes.self)
            * y.loadUnaligned(fromByteOffset: index * 4, as: Lanes.self)
        second +=
            x.loadUnaligned(fromByteOffset: index * 4 + 64, as: Lanes.self)
            * y.loadUnaligned(fromByteOffset: index * 4 + 64, as: Lanes.self)
        index += 32
    }
    var sum = (first + second).sum()
    while index < count {
        sum += a[index] * b[index]
        index += 1
    }
    return sum
}

/// `FILE.inputs.jsonl`: what each row of a collection is, a line for each.
struct InputNames: Sendable {
    private let file: MappedFile
    /// Where each line begins, and where the last ends.
    private let starts: [Int]

    var count: Int { starts.count - 1 }

    init(path: String) throws(CheckpointError) {
        file = try MappedFile(path: path)
        starts = file.withBytes(lineStarts)
    }

    /// The input of a row.
    func name(_ row: Int) throws -> String { try entry(row).name }

    /// The input of a row, and the picture file's size and time as it was then, where that was noted.
    func entry(_ row: Int) throws -> (name: String, kind: EmbeddingInput.Kind, stamp: FileStamp?) {
        do throws(CheckpointError) {
            return try file.withBytes { (bytes) throws(CheckpointError) in
                var reader = JSONReader(UnsafeRawBufferPointer(rebasing: bytes[starts[row]..<starts[row + 1]]))
                var name: String?
                var kind = EmbeddingInput.Kind.image
                var (bytes, modified): (Int?, Int?)
                try reader.object { (key, reader) throws(CheckpointError) in
                    switch key {
                    case "input": name = try reader.string()
                    case "kind": kind = EmbeddingInput.Kind(rawValue: try reader.string()) ?? .image
                    case "bytes": bytes = try reader.count()
                    case "modified_ns": modified = try reader.integer()
                    default:
                        var budget = 1000
                        _ = try reader.value(budget: &budget)
                    }
                }
                guard let name else { throw CheckpointError("there is no \"input\"") }
                var stamp: FileStamp?
                if let bytes, let modified { stamp = FileStamp(bytes: bytes, modified: modified) }
                return (name, kind, stamp)
            }
        } catch {
            throw CLIPError(.input, "\(file.name), line \(row + 1): \(error.description).")
        }
    }
}
