// Zero-shot classification: each label becomes a vector by way of sentences, and a picture is what its nearest label says.

import CZeroShot

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Labels as vectors of the space that pictures share.
///
/// ```swift
/// let classifier = try clip.zeroShotClassifier(labels: ["cat", "dog"], templates: ["a photo of a {}.", "a drawing of a {}."])
/// let best = try classifier.classify(clip.encodeImage([image]), top: 1)[0][0]
/// print(best.label, best.probability)
/// ```
public struct ZeroShotClassifier: Sendable {
    /// A label and how well it fits a picture.
    public struct Match: Sendable, Equatable {
        /// Its number among the labels, from 0.
        public let index: Int
        /// The label itself.
        public let label: String
        /// The cosine of the angle between the picture and the label's vector, from -1 to 1.
        public let cosine: Float
        /// As `CLIP.probabilities(ofCosines:)` gives it for all labels together.
        public let probability: Float
    }

    /// In the order given. Two classes may have the same label, as two pairs of ImageNet's have.
    public let labels: [String]
    /// One vector of unit length for each label: `[labels, dimension]`, open_clip's `zeroshot_weights` transposed.
    public let vectors: Embeddings
    private let information: ModelInformation

    init(labels: [String], vectors: Embeddings, information: ModelInformation) {
        self.labels = labels
        self.vectors = vectors
        self.information = information
    }

    /// The cosine of every row to every label: `[count][labels]`, from -1 to 1.
    ///
    /// - Throws: `CLIPError` with the code `.input` where the rows have another dimension.
    public func cosines(of embeddings: Embeddings) throws -> [[Float]] {
        let dimension = vectors.dimension
        guard embeddings.dimension == dimension else {
            throw CLIPError(
                .input,
                "The labels' vectors have \(dimension) numbers, and the pictures' have \(embeddings.dimension): expected "
                    + "vectors of the model that made the classifier.")
        }
        let rows = embeddings.normalized()
        return rows.values.withUnsafeBufferPointer { rows in
            vectors.values.withUnsafeBufferPointer { labels in
                guard let rows = rows.baseAddress, let labels = labels.baseAddress else { return [] }
                return (0..<embeddings.count).map { row in
                    (0..<vectors.count).map { dot(rows + row * dimension, labels + $0 * dimension, dimension) }
                }
            }
        }
    }

    /// The labels that fit each row best, the best first, equal ones in the order of the labels.
    ///
    /// - Parameters:
    ///   - embeddings: pictures' features, of any length.
    ///   - top: how many labels to give for each; by default all.
    /// - Returns: for each row, as many as there are labels, at most `top`.
    /// - Throws: `CLIPError` with the code `.input` where the rows have another dimension.
    public func classify(_ embeddings: Embeddings, top: Int? = nil) throws -> [[Match]] {
        try cosines(of: embeddings).map { cosines in
            let probabilities = information.probabilities(ofCosines: cosines)
            let order = cosines.indices.sorted { (cosines[$0], -$0) > (cosines[$1], -$1) }
            return order.prefix(max(0, top ?? order.count)).map {
                Match(index: $0, label: labels[$0], cosine: cosines[$0], probability: probabilities[$0])
            }
        }
    }
}

extension ZeroShotClassifier {
    /// Keeps labels and vectors in a `.safetensors`, with `PATH.inputs.jsonl` beside it, as `embed` writes sentences;
    /// `CLIP.zeroShotClassifier(contentsOf:)` reads them.
    ///
    /// - Parameter model: what the file names as its model; see `CLIP.recordedName(of:)`.
    /// - Throws: `CLIPError` with the code `.output`.
    public func write(to path: String, model: String) throws {
        let writer = try EmbeddingWriter(
            path: path, format: .safetensors, dimension: vectors.dimension, metadata: [("model", model)])
        defer { writer.abandon() }  // Nothing, once it is finished.
        for (index, label) in labels.enumerated() { try writer.append(vectors[index], input: label, kind: .text) }
        try writer.finish()
    }

    /// The template of OpenAI's first example.
    public static let defaultTemplate = "a photo of a {}"

    /// Labels: `imagenet` are the names of ImageNet's 1000 classes in their order (open_clip's `IMAGENET_CLASSNAMES`);
    /// anything else is a file of labels, one a line, whose empty lines are passed over.
    ///
    /// - Throws: `CLIPError` with the code `.input`.
    public static func labels(_ source: String) throws -> [String] {
        source == "imagenet" ? lines(zeroShotImageNetLabels()) : try lines(source, "labels", builtIn: "imagenet")
    }

    /// Templates: `openai` are OpenAI's 80 for ImageNet (open_clip's `OPENAI_IMAGENET_TEMPLATES`), `simple` seven of them
    /// (`SIMPLE_IMAGENET_TEMPLATES`); anything else is a file of templates, one a line, whose empty lines are passed over.
    ///
    /// - Throws: `CLIPError` with the code `.input`.
    public static func templates(_ source: String) throws -> [String] {
        switch source {
        case "openai": lines(zeroShotOpenAITemplates())
        case "simple": lines(zeroShotSimpleTemplates())
        default: try lines(source, "templates", builtIn: "openai or simple")
        }
    }

    /// Says what is wrong with templates, which needs no model.
    ///
    /// - Throws: `CLIPError` with the code `.input` for no templates and a template without `{}`.
    public static func check(templates: [String]) throws {
        if templates.isEmpty { throw CLIPError(.input, "There are no templates: a classifier needs at least one.") }
        if let template = templates.first(where: { !$0.contains("{}") }) {
            throw CLIPError(
                .input,
                "The template \(JSONText.quoted(template)) has no {}: expected a sentence with {} where the label goes, such "
                    + "as \"\(defaultTemplate)\".")
        }
    }

    private static func lines(_ text: ZeroShotLines) -> [String] {
        UnsafeBufferPointer(start: text.bytes, count: text.count).split(separator: UInt8(ascii: "\n")).map {
            String(decoding: $0, as: UTF8.self)
        }
    }

    private static func lines(_ path: String, _ what: String, builtIn: String) throws -> [String] {
        guard let reader = LineReader(path: path) else {
            throw CLIPError(
                .input, "The \(what) \(path) cannot be read: \(describe(errno: errno)); expected \(builtIn), or a file."
            )
        }
        var lines: [String] = []
        while let line = reader.next() {
            if !line.isEmpty { lines.append(line) }
        }
        if lines.isEmpty { throw CLIPError(.input, "\(path) holds no \(what): expected one a line.") }
        return lines
    }
}

extension CLIP {
    /// Vectors for labels: every template is filled in with the label, encoded and brought to unit length; their mean,
    /// brought to unit length, is the label's. open_clip's `build_zero_shot_classifier`, OpenAI's `zeroshot_classifier`.
    ///
    /// Memory stays bounded whatever the number of sentences, and no sentence costs more than its own length.
    ///
    /// - Parameters:
    ///   - labels: names of classes.
    ///   - templates: sentences, each with `{}` where the label goes.
    ///   - truncate: cuts sentences that are longer than the model's context instead of refusing them.
    ///   - batchSize: sentences computed together; by default what fills the device.
    ///   - progress: told after each sentence how many are done; what it throws ends the call and is thrown on.
    /// - Throws: `CLIPError` with the code `.input` for no labels, no templates, a template without `{}` and a sentence
    ///   that is too long, with the code `.device` when the device fails; and what `progress` throws.
    public func zeroShotClassifier(
        labels: [String], templates: [String] = [ZeroShotClassifier.defaultTemplate], truncate: Bool = false,
        batchSize: Int? = nil, progress: (Int) throws -> Void = { _ in }
    ) throws -> ZeroShotClassifier {
        var means = try ZeroShotMeans(labels: labels, templates: templates, dimension: embeddingDimension)
        var options = PreparationOptions()
        options.truncatesText = truncate
        var done = 0
        try embed(means.sentences.lazy.map { .text($0) }, batchSize: batchSize, options: options) { result in
            means.add(try result.embedding.get())
            done += 1
            try progress(done)
        }
        return means.classifier(information)
    }
}

extension CLIP {
    /// A classifier of vectors that are there already: those that `ZeroShotClassifier.write(to:model:)` kept, or any rows
    /// of this model's with their names beside them. The text tower is not needed.
    ///
    /// - Throws: `CLIPError` with the code `.input` for a file of no rows, without names, of another dimension, or with numbers
    ///   that are no vectors' directions.
    public func zeroShotClassifier(contentsOf collection: EmbeddingCollection) throws -> ZeroShotClassifier {
        let path = collection.path
        guard collection.count > 0, collection.names != nil else {
            throw CLIPError(
                .input,
                collection.count == 0
                    ? "\(path) holds no rows: expected a vector for each label."
                    : "\(path)\(EmbeddingCollection.namesSuffix) is missing, which says what the labels are.")
        }
        guard collection.dimension == embeddingDimension else {
            throw CLIPError(
                .input,
                "\(path) has vectors of \(collection.dimension) numbers, and the model's have \(embeddingDimension): another "
                    + "model made them\(collection.metadata["model"].map { " (\($0))" } ?? "").")
        }
        var rows = collection.rows(0..<collection.count)
        let lengths = (0..<rows.count).map { rows[$0].reduce(0) { $0 + $1 * $1 }.squareRoot() }
        if let bad = lengths.firstIndex(where: { !($0 > 0) || !$0.isFinite }) {
            throw CLIPError(
                .input, "\(path) holds in row \(bad) what is no direction: expected finite numbers, not all zero.")
        }
        // Vectors of unit length stay as they are, to the bit.
        if lengths.contains(where: { abs($0 - 1) > 1e-5 }) { rows = rows.normalized() }
        return ZeroShotClassifier(
            labels: try (0..<collection.count).map(collection.input), vectors: rows, information: information)
    }
}

/// Labels' vectors in the making: sentences out, their vectors in.
struct ZeroShotMeans {
    private let labels: [String]
    private let templates: [String]
    /// The sum of each label's vectors so far, label after label; shorter than that while the first template is filled in.
    private var sums: [Float] = []
    private let dimension: Int
    private var added = 0

    /// - Throws: `CLIPError` with the code `.input` for no labels, no templates and a template without `{}`.
    init(labels: [String], templates: [String], dimension: Int) throws {
        if labels.isEmpty { throw CLIPError(.input, "There are no labels: a classifier needs at least one.") }
        try ZeroShotClassifier.check(templates: templates)
        self.labels = labels
        self.templates = templates
        self.dimension = dimension
        sums.reserveCapacity(labels.count * dimension)
    }

    /// Every template with every label, template after template: sentences that begin alike stand together, and share
    /// the rows of their beginnings.
    var sentences: some Sequence<String> {
        templates.lazy.flatMap { [labels] template in labels.lazy.map { template.replacing("{}", with: $0) } }
    }

    /// The vector of the next sentence, of unit length.
    mutating func add(_ vector: ArraySlice<Float>) {
        if added < labels.count {
            sums += vector
        } else {
            let first = added % labels.count * dimension
            for (index, value) in vector.enumerated() { sums[first + index] += value }
        }
        added += 1
    }

    func classifier(_ information: ModelInformation) -> ZeroShotClassifier {
        ZeroShotClassifier(
            labels: labels, vectors: Embeddings(values: sums, dimension: dimension).normalized(),
            information: information)
    }
}
