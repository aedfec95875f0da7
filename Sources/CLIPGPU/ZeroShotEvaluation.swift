// Zero-shot evaluation: pictures whose classes are known, and how often a classifier says the same.

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A folder with one subfolder for each class, as torchvision's `ImageFolder` reads it: the classes are the subfolders in
/// the order of their names' bytes. Hidden subfolders and files beside them are left out.
public struct ClassFolders: Sendable {
    /// The subfolders' names, in order.
    public let names: [String]
    /// Every class's pictures, class after class.
    public let inputs: EmbeddingInputs
    private let prefix: String
    /// By bytes: to Swift, differently composed letters are equal, and to the file system they are not.
    private let indices: [[UInt8]: Int]

    /// Lists the subfolders of a folder.
    ///
    /// - Throws: `CLIPError` with the code `.input` where it cannot be read or has none.
    public init(contentsOf path: String) throws {
        guard let entries = sortedEntries(of: path) else {
            throw CLIPError(.input, unreadable(path, errno: errno))
        }
        let prefix = folderPrefix(path)
        // A class that is left out would make the accuracy one of fewer classes.
        if let lost = entries.first(where: { $0.isLost && $0.isFolder }) {
            throw CLIPError(.input, unreadable(prefix + lost.name, errno: ENOENT))
        }
        let names = entries.filter { !$0.isLost }.map(\.name).filter { isDirectory(prefix + $0) }
        if names.isEmpty {
            throw CLIPError(
                .input, "\(path) has no subfolders: expected one for each class, with the class's pictures in it.")
        }
        self.names = names
        self.prefix = prefix
        inputs = EmbeddingInputs(paths: names.map { prefix + $0 })
        indices = Dictionary(names.enumerated().map { (Array($1.utf8), $0) }) { first, _ in first }
    }

    /// What the classes are called where nobody says: the names with spaces for underscores.
    public var labels: [String] { names.map { $0.replacing("_", with: " ") } }

    /// The class of one of `inputs`, by its name: the number of its subfolder, from 0; none for what is not of them.
    public func index(of input: String) -> Int? {
        guard input.utf8.starts(with: prefix.utf8) else { return nil }
        return indices[Array(input.utf8.dropFirst(prefix.utf8.count).prefix { $0 != UInt8(ascii: "/") })]
    }
}

/// How often the class that fits a picture best is its own: the figures of CLIP_benchmark's zero-shot classification.
public struct ZeroShotAccuracy: Sendable {
    /// Pictures of one class that were taken for another.
    public struct Confusion: Sendable, Equatable {
        /// The class they are of.
        public let expected: Int
        /// The class they were taken for.
        public let predicted: Int
        /// How many.
        public let pictures: Int
    }

    /// Classes altogether.
    public let classes: Int
    /// Among how many best classes a picture's own is looked for.
    public let top: Int
    /// Pictures whose best class is their own.
    public private(set) var right = 0
    /// Pictures whose own class is among the `top` best.
    public private(set) var amongTop = 0
    /// Pictures of each class, taken for each class.
    private var counts: [[Int: Int]]

    /// Nothing counted yet.
    public init(classes: Int, top: Int = 5) {
        self.classes = classes
        self.top = top
        counts = Array(repeating: [:], count: classes)
    }

    /// Counts one picture.
    ///
    /// - Parameters:
    ///   - cosines: of the picture to each class; of equal ones the first is the greater.
    ///   - expected: the class it is of.
    /// - Precondition: there is a cosine for each class, and `expected` is one of them.
    public mutating func count(_ cosines: [Float], of expected: Int) {
        precondition(cosines.count == classes, "\(cosines.count) cosines for \(classes) classes")
        let order = { (index: Int) in (cosines[index], -index) }
        let better = cosines.indices.count { order($0) > order(expected) }
        if better == 0 { right += 1 }
        if better < top { amongTop += 1 }
        let predicted = cosines.indices.max { order($0) < order($1) } ?? expected
        counts[expected][predicted, default: 0] += 1
    }

    /// Pictures counted.
    public var pictures: Int { counts.reduce(0) { $0 + $1.values.reduce(0, +) } }

    /// `acc1`: the share of the pictures whose best class is their own, from 0 to 1; not a number before the first.
    public var accuracy: Double { Double(right) / Double(pictures) }

    /// `acc5`, where `top` is 5: the share of the pictures whose own class is among the best; none where there are fewer
    /// classes than `top`.
    public var topAccuracy: Double? { classes < top ? nil : Double(amongTop) / Double(pictures) }

    /// `mean_per_class_recall`: the mean, over the classes that have pictures, of the share of theirs that are taken for
    /// that class; scikit-learn's `balanced_accuracy_score`.
    public var meanPerClassRecall: Double {
        let recalls = counts.enumerated().filter { !$1.isEmpty }.map { index, taken in
            Double(taken[index] ?? 0) / Double(taken.values.reduce(0, +))
        }
        return recalls.reduce(0, +) / Double(recalls.count)
    }

    /// Which classes were taken for which others, the most frequent first, equal ones in the order of the classes.
    public var confusions: [Confusion] {
        counts.enumerated().flatMap { expected, taken in
            taken.filter { $0.key != expected }.map {
                Confusion(expected: expected, predicted: $0.key, pictures: $0.value)
            }
        }.sorted { (-$0.pictures, $0.expected, $0.predicted) < (-$1.pictures, $1.expected, $1.predicted) }
    }
}
