// What is to be embedded, found lazily: pictures, folders, archives, tensors and sentences, in a stable order and in
// bounded memory whatever their number.

import CLIPInput
import Checkpoints

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// One picture or sentence to embed, not yet decoded.
public struct EmbeddingInput: Sendable {
    /// Which tower it goes through.
    public enum Kind: String, Sendable {
        /// A picture, or pixels.
        case image
        /// A sentence.
        case text
    }

    package enum Content: Sendable {
        case file(path: String)
        case bytes([UInt8])
        /// Normalised pixels `[3, height, width]`.
        case pixels(StoredTensor, index: Int)
        case text(String)
        /// Something named by the caller that could not even be looked into.
        case failure(CLIPError)
    }

    /// What a person would call it: the path, `archive.tar/member.jpg`, `pixels.npy[3]`, or the sentence itself.
    public let name: String
    /// Which tower it goes through.
    public let kind: Kind
    package let content: Content
    /// The file that holds it, where there is one: its own, or the archive or tensor that it is part of.
    let file: String?

    init(name: String, kind: Kind, content: Content, file: String? = nil) {
        self.name = name
        self.kind = kind
        self.content = content
        self.file = file
    }

    /// Something that the caller named, and why it cannot be.
    static func failure(_ name: String, _ kind: Kind, _ sentence: String) -> EmbeddingInput {
        EmbeddingInput(name: name, kind: kind, content: .failure(CLIPError(.input, sentence)))
    }

    /// A sentence.
    public static func text(_ text: String) -> EmbeddingInput {
        EmbeddingInput(name: text, kind: .text, content: .text(text))
    }

    /// A picture file.
    public static func image(contentsOf path: String) -> EmbeddingInput {
        EmbeddingInput(name: path, kind: .image, content: .file(path: path), file: path)
    }
}

/// A lazy sequence of inputs: paths first, then texts, then the lines of text files.
///
/// A path is a picture, a folder (walked recursively, by name, hidden entries and links to folders left out; files whose
/// names do not end like a picture's are passed over), a `.npy` of pixels (`[n, 3, H, W]` or `[3, H, W]`), a `.tar`, or
/// `-` for paths on standard input, one a line.
public struct EmbeddingInputs: Sequence, Sendable {
    /// Endings that mark a picture inside folders and archives. A file named by the caller may have any.
    public static let pictureEndings: Set<String> = ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif"]

    /// Paths, as described above.
    public var paths: [String]
    /// Sentences.
    public var texts: [String]
    /// Files of sentences, one a line.
    public var textFiles: [String]

    /// Inputs in the order given: paths, texts, text files.
    public init(paths: [String] = [], texts: [String] = [], textFiles: [String] = []) {
        self.paths = paths
        self.texts = texts
        self.textFiles = textFiles
    }

    /// How many inputs there will be, counted by walking folders and reading text files; none where only reading
    /// everything tells (standard input and pipes, archives, tensors).
    public func count() -> Int? {
        var total = texts.count
        for path in paths {
            if path == "-" || isArchive(path) || isTensor(path) { return nil }
            if isDirectory(path) {
                var walk = FolderWalk(path)
                while walk.next() != nil { total += 1 }
            } else {
                total += 1
            }
        }
        for path in textFiles {
            if path == "-" { return nil }
            guard fileExists(path) else {
                total += 1  // It fails.
                continue
            }
            // What is counted in a pipe is gone.
            guard FileStamp(path: path) != nil, let lines = LineReader(path: path) else { return nil }
            while lines.next() != nil { total += 1 }
        }
        return total
    }

    /// Walks the inputs.
    public func makeIterator() -> Iterator { Iterator(self) }

    /// Walks the inputs, opening one folder, archive or file at a time.
    public struct Iterator: IteratorProtocol {
        private var paths: ArraySlice<String>
        private var texts: ArraySlice<String>
        private var textFiles: ArraySlice<String>
        private var folder: (walk: FolderWalk, found: Int)?
        private var archive: (archive: TarArchive, path: String, found: Int)?
        private var tensor: (file: StoredTensor, path: String, next: Int, count: Int)?
        private var pathLines: LineReader?
        private var textLines: LineReader?
        /// Asked for each picture of an archive before it is read: one that the caller wants to pass over is not.
        var passesOver: (_ name: String, _ archive: String) -> Bool = { _, _ in false }

        init(_ inputs: EmbeddingInputs) {
            paths = inputs.paths[...]
            texts = inputs.texts[...]
            textFiles = inputs.textFiles[...]
        }

        /// The next input; one that cannot be looked into is handed on as an input that fails.
        public mutating func next() -> EmbeddingInput? {
            while true {
                if let input = nextInside() { return input }
                if let lines = pathLines {
                    if let path = lines.next() {
                        if !path.isEmpty, let input = open(path) { return input }
                        continue
                    }
                    pathLines = nil
                }
                if let path = paths.popFirst() {
                    if path == "-" {
                        pathLines = LineReader(path: nil)
                    } else if let input = open(path) {
                        return input
                    }
                    continue
                }
                if let text = texts.popFirst() { return .text(text) }
                if let lines = textLines {
                    if let line = lines.next() { return .text(line) }
                    textLines = nil
                }
                guard let path = textFiles.popFirst() else { return nil }
                textLines = LineReader(path: path == "-" ? nil : path)
                if textLines == nil {
                    return .failure(path, .text, unreadable(path, errno: errno))
                }
            }
        }

        /// The next picture of the folder, archive or tensor that is open.
        private mutating func nextInside() -> EmbeddingInput? {
            if let (opened, found) = folder {
                var walk = opened
                switch walk.next() {
                case .file(let path):
                    folder = (walk, found + 1)
                    return .image(contentsOf: path)
                case .failure(let path, let code):
                    folder = (walk, found + 1)
                    return .failure(path, .image, unreadable(path, errno: code))
                case nil:
                    folder = nil
                    if found == 0 {
                        return .failure(
                            walk.root, .image,
                            "\(walk.root) holds no pictures: expected files ending in .jpg, .png, .webp or .gif.")
                    }
                }
            }
            if let (reader, path, found) = archive {
                do throws(TarError) {
                    var found = found
                    let member = try reader.next { name in
                        guard isPicture(name) else { return false }
                        found += 1
                        return !passesOver(path + "/" + name, path)
                    }
                    if let member {
                        archive = (reader, path, found)
                        return EmbeddingInput(
                            name: path + "/" + member.name, kind: .image, content: .bytes(member.bytes), file: path)
                    }
                    archive = nil
                    if found == 0 {
                        return .failure(
                            path, .image,
                            "\(path) holds no pictures: expected members ending in .jpg, .png, .webp or .gif.")
                    }
                } catch {
                    archive = nil
                    return .failure(path, .image, error.description)
                }
            }
            if let (file, path, index, count) = tensor {
                if index < count {
                    tensor = (file, path, index + 1, count)
                    return EmbeddingInput(
                        name: "\(path)[\(index)]", kind: .image, content: .pixels(file, index: index), file: path)
                }
                tensor = nil
            }
            return nil
        }

        /// A plain file as an input; a folder, archive or tensor is opened and none returned.
        private mutating func open(_ path: String) -> EmbeddingInput? {
            if isDirectory(path) {
                folder = (FolderWalk(path), 0)
                return nil
            }
            if isArchive(path) || isTensor(path), !fileExists(path) {
                return .failure(path, .image, unreadable(path, errno: errno))
            }
            if isArchive(path) {
                do throws(TarError) {
                    archive = (try TarArchive(path: path), path, 0)
                    return nil
                } catch {
                    return .failure(path, .image, error.description)
                }
            }
            if isTensor(path) {
                do throws(CheckpointError) {
                    let file = try Numpy.open(path: path)
                    let shape = file.shape
                    guard shape.count == 3 || shape.count == 4, shape[shape.count - 3] == 3, file.type != .uint8 else {
                        return .failure(
                            path, .image,
                            "\(path) holds \(file.type.rawValue) of the shape \(shape): expected floats as [n, 3, height, width] or [3, height, width], "
                                + "as `clip-gpu preprocess` writes them.")
                    }
                    tensor = (file, path, 0, shape.count == 4 ? shape[0] : 1)
                    return nil
                } catch {
                    return .failure(path, .image, error.description + ".")
                }
            }
            return .image(contentsOf: path)
        }
    }
}

func ending(_ path: String) -> String {
    guard let dot = path.utf8.lastIndex(of: UInt8(ascii: ".")) else { return "" }
    return String(path[path.index(after: dot)...]).lowercased()
}

func isPicture(_ path: String) -> Bool { EmbeddingInputs.pictureEndings.contains(ending(path)) }
func isArchive(_ path: String) -> Bool { ending(path) == "tar" }
private func isTensor(_ path: String) -> Bool { ending(path) == "npy" }

func isDirectory(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
}

/// The pictures below a folder, depth first, entries sorted by their bytes.
struct FolderWalk {
    enum Found {
        case file(String)
        case failure(path: String, errno: Int32)
    }

    let root: String
    /// Entries still to visit of each open level, with their paths for names, last first.
    private var levels: [[FolderEntry]] = []
    private var pendingFailure: Found?

    init(_ root: String) {
        self.root = root
        enter(root)
    }

    mutating func next() -> Found? {
        while true {
            if let failure = pendingFailure {
                pendingFailure = nil
                return failure
            }
            guard !levels.isEmpty else { return nil }
            guard let entry = levels[levels.count - 1].popLast() else {
                levels.removeLast()
                continue
            }
            let path = entry.name
            if entry.isLost {
                if entry.isFolder || isPicture(path) { return .failure(path: path, errno: ENOENT) }
                continue
            }
            var status = stat()
            guard lstat(path, &status) == 0 else { return .failure(path: path, errno: errno) }
            if status.st_mode & S_IFMT == S_IFDIR {
                enter(path)
            } else if isPicture(path), !isDirectory(path) {
                return .file(path)
            }
        }
    }

    private mutating func enter(_ folder: String) {
        guard let entries = sortedEntries(of: folder) else {
            pendingFailure = .failure(path: folder, errno: errno)
            return
        }
        let prefix = folderPrefix(folder)
        levels.append(
            entries.reversed().map { FolderEntry(name: prefix + $0.name, isLost: $0.isLost, isFolder: $0.isFolder) })
    }
}

/// What a folder's entries begin with.
func folderPrefix(_ folder: String) -> String { folder.hasSuffix("/") ? folder : folder + "/" }

/// What stands in a folder under one name.
struct FolderEntry {
    /// With U+FFFD for what is not UTF-8.
    let name: String
    /// Whether the name is not UTF-8, so that nothing can be opened by it.
    let isLost: Bool
    /// Whether it is a folder; told of lost ones alone, since nobody can ask later.
    let isFolder: Bool
}

/// The names in a folder, sorted by their bytes, hidden ones left out; none, with `errno` set, where it cannot be read.
func sortedEntries(of folder: String) -> [FolderEntry]? {
    guard let handle = opendir(folder) else { return nil }
    defer { closedir(handle) }
    var entries: [FolderEntry] = []
    while let entry = readdir(handle) {
        withUnsafePointer(to: &entry.pointee.d_name) {
            $0.withMemoryRebound(to: CChar.self, capacity: 256) { bytes in
                if let name = String(validatingCString: bytes) {
                    entries.append(FolderEntry(name: name, isLost: false, isFolder: false))
                    return
                }
                var status = stat()
                let isKnown = fstatat(dirfd(handle), bytes, &status, AT_SYMLINK_NOFOLLOW) == 0
                entries.append(
                    FolderEntry(
                        name: String(cString: bytes), isLost: true,
                        isFolder: isKnown && status.st_mode & S_IFMT == S_IFDIR))
            }
        }
    }
    return entries.filter { !$0.name.hasPrefix(".") }.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
}

/// The lines of a file, or of standard input, without their ends. A signal that does not restart calls ends them.
final class LineReader {
    private let file: UnsafeMutablePointer<FILE>
    private let closes: Bool
    private var line: UnsafeMutablePointer<CChar>?
    private var capacity = 0

    /// None, with `errno` set, where the file cannot be opened; standard input for no path.
    init?(path: String?) {
        // The descriptor 0 itself, no copy of it: a handler of signals may put an empty file in its place.
        guard let file = path.map({ fopen($0, "rbe") }) ?? fdopen(0, "rb") else { return nil }
        if let path, isDirectory(path) {
            fclose(file)
            errno = EISDIR
            return nil
        }
        self.file = file
        closes = path != nil
    }

    deinit {
        free(line)
        // Standard input stays open; its buffer lasts as long as the process.
        if closes { fclose(file) }
    }

    func next() -> String? {
        var count = getline(&line, &capacity, file)
        guard count >= 0, let line else { return nil }
        if count > 0, line[count - 1] == CChar(UInt8(ascii: "\n")) { count -= 1 }
        if count > 0, line[count - 1] == CChar(UInt8(ascii: "\r")) { count -= 1 }
        return String(decoding: UnsafeRawBufferPointer(start: line, count: count), as: UTF8.self)
    }
}
