// Weights by name and expected shape, with every tensor of the checkpoint accounted for.
import CLIPCompute
import Checkpoints

/// Hands out the tensors of a checkpoint and collects what does not fit, so that all problems are told at once.
///
/// A tensor that is missing or misshapen is replaced by an empty one of the expected shape, so that the walk goes on;
/// `finish` then throws, and nobody reads it.
final class ParameterLoader {
    private let checkpoint: Checkpoint
    private var taken: Set<String> = []
    private var missing: [(name: String, shapes: [[Int]])] = []
    private var problems: [String] = []
    private var recent: [StoredTensor] = []

    /// Problems that one error lists.
    private static let mostListed = 20

    init(_ checkpoint: Checkpoint) { self.checkpoint = checkpoint }

    subscript(path: String) -> ParameterScope { ParameterScope(loader: self, path: path) }

    /// The tensor of this name, of one of the given shapes.
    func tensor(_ name: String, _ shapes: [Int]...) -> HostTensor {
        taken.insert(name)
        let placeholder = HostTensor(
            shape: shapes[0], elementType: .float32, bytes: UnsafeRawBufferPointer(start: nil, count: 0), owner: nil)
        guard let stored = checkpoint[name] else {
            missing.append((name, shapes))
            return placeholder
        }
        guard shapes.contains(stored.shape) else {
            let expected = shapes.map(Self.text).joined(separator: " or ")
            problems.append("shape       \(name): expected \(expected), found \(Self.text(stored.shape))")
            return placeholder
        }
        guard let type = stored.type.elementType else {
            problems.append("type        \(name): expected floating-point numbers, found \(stored.type.rawValue)")
            return placeholder
        }
        recent.append(stored)
        return HostTensor(
            shape: stored.shape, elementType: type, bytes: stored.bytes, owner: StoredMemory(stored.memory))
    }

    /// A tensor that may be there and means nothing to us.
    func ignore(_ name: String) { taken.insert(name) }

    /// Tensors that may be there and mean nothing to us.
    func ignore(prefix: String) {
        for tensor in checkpoint.tensors where tensor.name.hasPrefix(prefix) { taken.insert(tensor.name) }
    }

    /// The stored tensors handed out since the last call.
    func takeRecent() -> [StoredTensor] {
        defer { recent = [] }
        return recent
    }

    /// Throws what was found wrong; `contradictions` come first.
    func finish(contradictions: [String]) throws(ModelError) {
        let unexpected = checkpoint.tensors.filter { !taken.contains($0.name) }
        var lines = contradictions.map { "contradiction: " + $0 }
        let listed = max(0, Self.mostListed - lines.count)
        lines += missing.enumerated().map { index, entry in
            let line = "missing     \(entry.name) \(Self.text(entry.shapes[0]))"
            guard index < listed, let near = Self.nearest(to: entry.name, of: unexpected.prefix(2000)) else {
                return line
            }
            return line + "   (found \(near.name) \(Self.text(near.shape)))"
        }
        lines += problems
        let absent = missing.prefix(2000)
        lines += unexpected.enumerated().map { index, tensor in
            let line = "unexpected  \(Self.shown(tensor.name)) \(Self.text(tensor.shape))"
            guard index < listed, let near = nearestExpected(to: tensor.name, of: absent.map(\.name)) else {
                return line
            }
            return line + "   (expected \(near))"
        }
        guard !lines.isEmpty else { return }
        let rest = lines.count - Self.mostListed
        let list = lines.prefix(Self.mostListed).map { "\n  " + $0 }.joined()
        throw ModelError(
            "\(checkpoint.name) does not fit this model (\(lines.count) \(lines.count == 1 ? "problem" : "problems"), "
                + "\(checkpoint.tensors.count) tensors in the file):\(list)"
                + (rest > 0 ? "\n  and \(rest) more" : ""))
    }

    private static func text(_ shape: [Int]) -> String { "\(shape)" }

    private static func shown(_ name: String) -> String { String(quoted(name).dropFirst().dropLast()) }

    private static func nearest(
        to name: String, of tensors: some Sequence<StoredTensor>
    ) -> (name: String, shape: [Int])? {
        var best: (distance: Int, tensor: StoredTensor)?
        for tensor in tensors where tensor.name.utf8.count <= 200 {
            let distance = editDistance(
                Array(name.utf8), Array(tensor.name.utf8), limit: best?.distance ?? name.utf8.count / 3)
            if let distance, distance < best?.distance ?? .max { best = (distance, tensor) }
        }
        return best.map { (shown($0.tensor.name), $0.tensor.shape) }
    }

    private func nearestExpected(to name: String, of names: [String]) -> String? {
        guard name.utf8.count <= 200 else { return nil }
        var best: (distance: Int, name: String)?
        for candidate in names {
            let distance = editDistance(
                Array(name.utf8), Array(candidate.utf8), limit: best?.distance ?? name.utf8.count / 3)
            if let distance, distance < best?.distance ?? .max { best = (distance, candidate) }
        }
        return best?.name
    }
}

/// Keeps the memory of a tensor alive, and lets it go where a backend has what it needs.
private final class StoredMemory: ReleasableMemory {
    private let memory: any TensorMemory

    init(_ memory: any TensorMemory) { self.memory = memory }

    func letGo(_ bytes: UnsafeRawBufferPointer) {
        guard let start = memory.bytes.baseAddress, let first = bytes.baseAddress else { return }
        memory.letGo((first - start)..<(first - start + bytes.count))
    }
}

/// The names below one path of a checkpoint.
struct ParameterScope {
    let loader: ParameterLoader
    let path: String

    subscript(name: String) -> ParameterScope { ParameterScope(loader: loader, path: "\(path).\(name)") }
    subscript(index: Int) -> ParameterScope { self["\(index)"] }

    func ignore(_ name: String) { loader.ignore("\(path).\(name)") }

    func tensor(_ name: String, _ shape: [Int]) -> HostTensor { loader.tensor("\(path).\(name)", shape) }

    /// LayerNorm's parameters, or those of an RMS norm, which has no bias.
    func norm(
        _ name: String, _ width: Int, epsilon: Float, kind: NormParameters.Kind = .layer
    ) -> NormParameters {
        NormParameters(
            kind: kind, weight: self[name].tensor("weight", [width]),
            bias: kind == .layer ? self[name].tensor("bias", [width]) : nil, epsilon: epsilon)
    }

    func projection(_ name: String, inputs: Int, outputs: Int, hasBias: Bool = true) -> ProjectionParameters {
        ProjectionParameters(
            weight: self[name].tensor("weight", [outputs, inputs]),
            bias: hasBias ? self[name].tensor("bias", [outputs]) : nil)
    }

    func linear(
        _ name: String, inputs: Int, outputs: Int, norm: NormParameters? = nil, activation: Activation = .none,
        hasBias: Bool = true
    ) -> LinearParameters {
        LinearParameters(
            weight: HostMatrix(self[name].tensor("weight", [outputs, inputs])),
            bias: hasBias ? [self[name].tensor("bias", [outputs])] : [], norm: norm, activation: activation)
    }

    /// `nn.MultiheadAttention` of one learned query, whose keys and values are as wide as `inputs`: its three
    /// projections stand in one tensor, unless widths differ.
    func pooledAttention(
        _ shape: AttentionShape, query: HostTensor, inputs: Int, norm: NormParameters
    ) -> PooledAttentionParameters {
        let width = shape.heads * shape.keyWidth
        let biases = tensor("in_proj_bias", [3 * width]).rows(in: 3)
        let weights =
            inputs == width
            ? tensor("in_proj_weight", [3 * width, width]).rows(in: 3)
            : [("q", width), ("k", inputs), ("v", inputs)].map { tensor("\($0)_proj_weight", [width, $1]) }
        return PooledAttentionParameters(
            shape: shape, query: .learned(query), norm: norm, queryWeight: HostMatrix(weights[0]),
            keyWeight: HostMatrix(weights[1]), valueWeight: HostMatrix(weights[2]), queryBias: biases[0],
            keyBias: biases[1], valueBias: biases[2], output: linear("out_proj", inputs: width, outputs: width))
    }
}

extension HostTensor {
    /// Whether it stands for a tensor that is missing.
    var isPlaceholder: Bool { bytes.baseAddress == nil }

    /// Its rows in so many equal parts.
    func rows(in parts: Int) -> [HostTensor] {
        let size = shape[0] / parts
        return (0..<parts).map { rows(($0 * size)..<(($0 + 1) * size)) }
    }

    /// Some of its rows.
    func rows(_ range: Range<Int>) -> HostTensor {
        let size = shape.dropFirst().reduce(elementType.byteCount, *)
        let part =
            isPlaceholder
            ? bytes : UnsafeRawBufferPointer(rebasing: bytes[(range.lowerBound * size)..<(range.upperBound * size)])
        return HostTensor(
            shape: [range.count] + shape.dropFirst(), elementType: elementType, bytes: part, owner: owner)
    }

    /// The same numbers in another shape.
    func shaped(_ shape: [Int]) -> HostTensor {
        HostTensor(shape: shape, elementType: elementType, bytes: bytes, owner: owner)
    }

    /// Numbers computed from its own, of another shape.
    func mapped(to shape: [Int], _ transform: ([Float]) -> [Float]) -> HostTensor {
        isPlaceholder ? shaped(shape) : HostTensor(transform(floats()), shape: shape)
    }
}

extension StoredType {
    /// What the contract calls it; none for numbers that are no weights.
    package var elementType: ElementType? {
        switch self {
        case .float32: .float32
        case .float16: .float16
        case .bfloat16: .bfloat16
        case .float64: .float64
        default: nil
        }
    }
}

/// Throws where a weight is NaN or infinite, naming the first. The file's pages stay for who packs them, unless they are
/// many: of large tensors no more than one is in memory twice then.
func requireFinite(_ tensors: [StoredTensor]) throws(ModelError) {
    let keepsPages = tensors.reduce(0) { $0 + $1.range.count } <= 64 << 20
    for tensor in tensors {
        defer { if !keepsPages { tensor.memory.letGo(tensor.range) } }
        guard let index = tensor.firstNonFinite() else { continue }
        var position: [Int] = []
        var rest = index
        for dimension in tensor.shape.reversed() {
            position.insert(rest % dimension, at: 0)
            rest /= dimension
        }
        throw ModelError(
            "\(tensor.memory.name): the weight \(tensor.name) \(tensor.shape) is NaN or infinite at \(position); "
                + "the file is damaged, or was written by a training that diverged")
    }
}

/// Where tensors lie, neighbours together.
func extents(of tensors: [StoredTensor]) -> [(memory: any TensorMemory, range: Range<Int>)] {
    var extents: [(memory: any TensorMemory, range: Range<Int>)] = []
    for tensor in tensors.sorted(by: { $0.range.lowerBound < $1.range.lowerBound }) {
        if let last = extents.last, last.memory === tensor.memory, last.range.upperBound == tensor.range.lowerBound {
            extents[extents.count - 1].range = last.range.lowerBound..<tensor.range.upperBound
        } else {
            extents.append((tensor.memory, tensor.range))
        }
    }
    return extents
}

/// Levenshtein's distance, or none where it is `limit` or more.
func editDistance(_ a: [UInt8], _ b: [UInt8], limit: Int) -> Int? {
    guard abs(a.count - b.count) < limit else { return nil }
    var row = Array(0...b.count)
    for i in 0..<a.count {
        var diagonal = row[0]
        row[0] = i + 1
        var least = row[0]
        for j in 0..<b.count {
            let substituted = diagonal + (a[i] == b[j] ? 0 : 1)
            diagonal = row[j + 1]
            row[j + 1] = min(substituted, row[j] + 1, row[j + 1] + 1)
            least = min(least, row[j + 1])
        }
        if least >= limit { return nil }
    }
    return row[b.count] < limit ? row[b.count] : nil
}
