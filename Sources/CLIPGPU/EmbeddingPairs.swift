// Pictures with sentences that belong to them, and how well each pair fits: what data sets are filtered by, and what makers
// of pictures are measured by (CLIPScore, Hessel et al. 2021, arXiv 2104.08718: 2.5 · max(cosine, 0); 100 · in torchmetrics).

import CLIPInput
import Checkpoints

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A picture and a sentence, not yet decoded.
public struct EmbeddingPair: Sendable {
    /// The picture; or why there is no pair, under the name that a person would give it.
    let image: EmbeddingInput
    /// The sentence; empty where there is no pair.
    public let text: String

    /// The picture's name, as `EmbeddingInput` has it.
    public var name: String { image.name }

    init(_ image: EmbeddingInput, _ text: String) {
        self.image = image
        self.text = text
    }

    /// A picture file and a sentence.
    public init(imageAt path: String, text: String) { self.init(.image(contentsOf: path), text) }
}

/// A lazy sequence of pairs, source after source. A source is
///
/// - a file of lines, or `-` for lines of standard input: a picture's path, a tab and a sentence, or a JSON object with
///   `image` and `text`; empty lines are passed over;
/// - a `.tar` as webdataset writes it: a picture and a `.txt` with the same name up to its first dot, one after the other;
/// - a folder, walked as `EmbeddingInputs` walks it: beside each picture stands a `.txt` with the same name up to its last dot.
public struct EmbeddingPairs: Sequence, Sendable {
    /// Paths, as described above.
    public var sources: [String]

    /// Pairs of these sources.
    public init(_ sources: [String]) { self.sources = sources }

    /// Walks the pairs.
    public func makeIterator() -> Iterator { Iterator(sources[...]) }

    /// Walks the pairs, opening one source at a time.
    public struct Iterator: IteratorProtocol {
        private enum Open {
            case lines(LineReader, path: String, line: Int)
            case folder(FolderWalk, found: Bool)
            case archive(TarArchive, path: String, found: Bool)
        }
        private var sources: ArraySlice<String>
        private var open: Open?
        /// Of an archive, what was read of the pair that is not complete.
        private var begun = Begun()

        private struct Begun {
            var key: String?
            var image: EmbeddingInput?
            var text: String?
            /// Whether the member's name is the key and an ending, as of "1.jpg", not of "1.mask.png".
            var hasPlainImage = false
            var hasPlainText = false
        }
        /// Why an archive ended, behind the pair that was complete before.
        private var pending: EmbeddingPair?

        init(_ sources: ArraySlice<String>) { self.sources = sources }

        /// The next pair; one that cannot be is handed on as a pair that fails.
        public mutating func next() -> EmbeddingPair? {
            while true {
                if let failed = pending {
                    pending = nil
                    return failed
                }
                switch open {
                case .lines(let reader, let path, let line):
                    guard let text = reader.next() else {
                        open = nil
                        continue
                    }
                    open = .lines(reader, path: path, line: line + 1)
                    if !text.isEmpty { return pair(text, "\(path == "-" ? "standard input" : path), line \(line + 1)") }
                case .folder(var walk, let found):
                    let entry = walk.next()
                    open = entry == nil ? nil : .folder(walk, found: true)
                    switch entry {
                    case .file(let path): return pair(path)
                    case .failure(let path, let code):
                        return failure(path, unreadable(path, errno: code))
                    case nil:
                        if found { continue }
                        return failure(
                            walk.root,
                            "\(walk.root) holds no pictures: expected files ending in .jpg, .png, .webp or .gif.")
                    }
                case .archive(let archive, let path, let found):
                    if let pair = next(of: archive, path, found) { return pair }
                case nil:
                    guard let source = sources.popFirst() else { return nil }
                    if let failed = enter(source) { return failed }
                }
            }
        }

        private mutating func enter(_ source: String) -> EmbeddingPair? {
            if isArchive(source), !fileExists(source) { return failure(source, unreadable(source, errno: errno)) }
            if source != "-", isDirectory(source) {
                open = .folder(FolderWalk(source), found: false)
            } else if isArchive(source) {
                do throws(TarError) {
                    open = .archive(try TarArchive(path: source), path: source, found: false)
                } catch {
                    return failure(source, error.description)
                }
            } else if let reader = LineReader(path: source == "-" ? nil : source) {
                open = .lines(reader, path: source, line: 0)
            } else {
                return failure(source, unreadable(source, errno: errno))
            }
            return nil
        }

        private func failure(_ name: String, _ sentence: String) -> EmbeddingPair {
            EmbeddingPair(.failure(name, .image, sentence), "")
        }

        /// A line of a list.
        private func pair(_ line: String, _ place: String) -> EmbeddingPair {
            var image: String?
            var text: String?
            if line.utf8.first == UInt8(ascii: "{") {
                do throws(CheckpointError) {
                    try Array(line.utf8).withUnsafeBufferPointer { (bytes) throws(CheckpointError) in
                        var reader = JSONReader(UnsafeRawBufferPointer(bytes))
                        try reader.object { (key, reader) throws(CheckpointError) in
                            switch key {
                            case "image": image = try reader.string()
                            case "text": text = try reader.string()
                            default:
                                var budget = 1000
                                _ = try reader.value(budget: &budget)
                            }
                        }
                    }
                } catch {
                    return failure(place, "\(place): \(error.description).")
                }
            } else if let tab = line.utf8.firstIndex(of: UInt8(ascii: "\t")) {
                (image, text) = (String(line[..<tab]), String(line[line.utf8.index(after: tab)...]))
            }
            guard let image, let text, !image.isEmpty else {
                return failure(
                    place,
                    "\(place) is no pair: expected a picture's path, a tab and a sentence, or a JSON object with \"image\" "
                        + "and \"text\".")
            }
            return EmbeddingPair(imageAt: image, text: text)
        }

        /// A picture of a folder.
        private func pair(_ path: String) -> EmbeddingPair {
            let beside = (path.lastIndex(of: ".").map { String(path[..<$0]) } ?? path) + ".txt"
            guard let reader = LineReader(path: beside) else {
                return failure(path, "\(path) has no sentence: \(unreadable(beside, errno: errno))")
            }
            var lines: [String] = []
            while let line = reader.next() { lines.append(line) }
            return EmbeddingPair(imageAt: path, text: sentence(lines.joined(separator: "\n")))
        }

        /// The next pair of an archive; none where it is at its end.
        private mutating func next(of archive: TarArchive, _ path: String, _ found: Bool) -> EmbeddingPair? {
            var found = found
            do throws(TarError) {
                while let member = try archive.next(where: { isPicture($0) || ending($0) == "txt" }) {
                    found = found || isPicture(member.name)
                    open = .archive(archive, path: path, found: found)
                    let finished = begun.key == key(member.name) ? nil : finish()
                    begun.key = key(member.name)
                    let isPlain = !member.name.utf8.dropFirst(key(member.name).utf8.count + 1).contains(
                        UInt8(ascii: "."))
                    if isPicture(member.name) {
                        if begun.image == nil || isPlain && !begun.hasPlainImage {
                            begun.image = EmbeddingInput(
                                name: path + "/" + member.name, kind: .image, content: .bytes(member.bytes), file: path)
                            begun.hasPlainImage = isPlain
                        }
                    } else if begun.text == nil || isPlain && !begun.hasPlainText {
                        begun.text = sentence(String(decoding: member.bytes, as: UTF8.self))
                        begun.hasPlainText = isPlain
                    }
                    if let finished { return finished }
                }
                open = nil
                if found { return finish() }
                begun = Begun()
                return failure(
                    path, "\(path) holds no pairs: expected members such as 1.jpg and 1.txt, one after the other.")
            } catch {
                open = nil
                let failed = failure(path, error.description)
                guard let last = finish() else { return failed }
                pending = failed
                return last
            }
        }

        /// What was begun, as a pair; sentences without a picture are passed over.
        private mutating func finish() -> EmbeddingPair? {
            defer { begun = Begun() }
            guard let image = begun.image, let key = begun.key else { return nil }
            guard let text = begun.text else {
                return failure(
                    image.name, "\(image.name) has no sentence: expected a member \(key).txt before or after it.")
            }
            return EmbeddingPair(image, text)
        }

        /// What members of a sample have in common: the name up to the first dot of its last part.
        private func key(_ name: String) -> String {
            let start = name.lastIndex(of: "/").map(name.index(after:)) ?? name.startIndex
            return String(name[..<(name[start...].firstIndex(of: ".") ?? name.endIndex)])
        }

        /// Without the ends that editors add.
        private func sentence(_ text: String) -> String {
            var text = text[...]
            while let last = text.last, last.isWhitespace { text.removeLast() }
            return String(text)
        }
    }
}

/// What became of one pair.
public struct PairResult: Sendable {
    /// The picture's name.
    public let name: String
    /// The sentence.
    public let text: String
    /// Both vectors, of unit length, or why there are none.
    public let embeddings: Result<(image: ArraySlice<Float>, text: ArraySlice<Float>), CLIPError>

    /// The cosine of the angle between both, from -1 to 1, or why there is none.
    public var cosine: Result<Float, CLIPError> {
        embeddings.map { vectors in
            vectors.image.withUnsafeBufferPointer { image in
                vectors.text.withUnsafeBufferPointer { text in
                    guard let first = image.baseAddress, let second = text.baseAddress else { return 0 }
                    return max(-1, min(1, dot(first, second, image.count)))
                }
            }
        }
    }
}

extension CLIP {
    /// Embeds both sides of each pair, in the order of the pairs and in bounded memory. What pairs near each other have in
    /// common, such as a picture with five sentences, is computed once.
    ///
    /// A pair that fails does not stop the others: its result holds the error.
    ///
    /// - Parameters:
    ///   - pairs: read lazily.
    ///   - batchSize: inputs computed together; by default what fills the device.
    ///   - options: how pictures and texts are prepared.
    ///   - shouldStop: asked between inputs; once true, what is under way is dropped and the call returns.
    ///   - onResult: called for each pair in order; an error it throws ends the run and is thrown on.
    /// - Throws: `CLIPError` when the device fails, and what `onResult` throws.
    public func embed(
        pairs: some Sequence<EmbeddingPair>, batchSize: Int? = nil,
        options: PreparationOptions = PreparationOptions(),
        shouldStop: () -> Bool = { false }, onResult: (PairResult) throws -> Void
    ) throws {
        let size = max(64, batchSize ?? max(preferredBatchSize(.image), preferredBatchSize(.text)))
        let groups = PairGroups()
        var rows: [Result<ArraySlice<Float>, CLIPError>] = []
        try embed(
            GroupedInputs(pairs: pairs.makeIterator(), size: size, groups: groups), batchSize: batchSize,
            options: options,
            shouldStop: shouldStop
        ) { result in
            rows.append(result.embedding)
            guard let group = groups.waiting.first, rows.count == group.inputs else { return }
            for pair in group.pairs {
                let embeddings = rows[pair.image].flatMap { image in
                    rows[group.images + pair.sentence].map { (image: image, text: $0) }
                }
                try onResult(PairResult(name: pair.name, text: pair.text, embeddings: embeddings))
            }
            rows.removeAll(keepingCapacity: true)
            _ = groups.waiting.popFirst()
        }
    }
}

/// Pairs whose inputs are under way: first all pictures of a group, then all its sentences.
private final class PairGroups {
    struct Group {
        var pairs: [(name: String, text: String, image: Int, sentence: Int)] = []
        var images = 0
        var inputs = 0
    }
    var waiting = Queue<Group>()
}

private struct GroupedInputs<Pairs: IteratorProtocol<EmbeddingPair>>: Sequence, IteratorProtocol {
    var pairs: Pairs
    let size: Int
    let groups: PairGroups
    /// Of the group that is handed out, last first.
    private var left: [EmbeddingInput] = []

    init(pairs: Pairs, size: Int, groups: PairGroups) {
        self.pairs = pairs
        self.size = size
        self.groups = groups
    }

    mutating func next() -> EmbeddingInput? {
        if left.isEmpty { fill() }
        return left.popLast()
    }

    private mutating func fill() {
        var group = PairGroups.Group()
        var (images, sentences): ([EmbeddingInput], [EmbeddingInput]) = ([], [])
        // By bytes: to Swift, differently composed letters are equal, and to file systems and tokenizers they are not.
        var (imagePlaces, sentencePlaces): ([[UInt8]: Int], [[UInt8]: Int]) = ([:], [:])
        while group.pairs.count < size, let pair = pairs.next() {
            var image = images.count
            // The same path is the same picture; members of archives may share a name.
            if case .file(let path) = pair.image.content {
                image = imagePlaces[Array(path.utf8)] ?? image
                imagePlaces[Array(path.utf8)] = image
            }
            if image == images.count { images.append(pair.image) }
            let sentence = sentencePlaces[Array(pair.text.utf8)] ?? sentences.count
            if sentence == sentences.count {
                sentencePlaces[Array(pair.text.utf8)] = sentence
                sentences.append(.text(pair.text))
            }
            group.pairs.append((pair.name, pair.text, image, sentence))
        }
        group.images = images.count
        group.inputs = images.count + sentences.count
        if group.pairs.isEmpty { return }
        groups.waiting.append(group)
        left = (images + sentences).reversed()
    }
}
