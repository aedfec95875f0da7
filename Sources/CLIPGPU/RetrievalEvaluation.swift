// Retrieval: of all pictures the one that a sentence belongs to, and of all sentences one that belongs to a picture.

import Dispatch
import Synchronization

/// How often what belongs together finds each other: the figures of CLIP_benchmark's zero-shot retrieval.
public struct RetrievalRecall: Sendable {
    /// Numbers in a vector; 0 before the first pair.
    private var dimension = 0
    private var imageValues: [Float] = []
    private var textValues: [Float] = []
    /// Pictures by the bytes of their names: several sentences may belong to one.
    private var imageIndices: [[UInt8]: Int] = [:]
    /// The picture of each sentence.
    private var owners: [Int] = []

    /// Nothing added yet.
    public init() {}

    /// Pictures that differ in name.
    public var images: Int { imageIndices.count }
    /// Sentences, each of which belongs to one picture.
    public var texts: Int { owners.count }

    /// Adds a sentence and its picture; a picture that was added under the same name is the same one.
    ///
    /// - Parameters:
    ///   - image: of unit length.
    ///   - text: of unit length.
    /// - Precondition: all vectors have one dimension.
    public mutating func add(_ name: String, image: ArraySlice<Float>, text: ArraySlice<Float>) {
        precondition(
            image.count == text.count && (dimension == 0 || image.count == dimension), "vectors of one dimension")
        dimension = image.count
        let index = imageIndices[Array(name.utf8)] ?? images
        if index == images {
            imageIndices[Array(name.utf8)] = index
            imageValues += image
        }
        textValues += text
        owners.append(index)
    }

    /// Ranks, from 0: of each sentence's picture among all pictures, and of each picture's best sentence among all
    /// sentences, by falling cosine, equal ones in the order in which they were added.
    func ranks() -> (images: [Int], texts: [Int]) {
        let (images, texts) = (images, texts)
        let own = withCosines { cosine in owners.enumerated().map { cosine($1, $0) } }
        var best = [Int?](repeating: nil, count: images)
        for (text, image) in owners.enumerated() where best[image].map({ own[text] > own[$0] }) ?? true {
            best[image] = text
        }
        let bestTexts = best.compactMap(\.self)  // Every picture has a sentence.
        let found = Mutex((images: [Int](repeating: 0, count: texts), texts: [Int](repeating: 0, count: images)))
        let share = 64
        DispatchQueue.concurrentPerform(iterations: (texts + share - 1) / share) { part in
            let range = (part * share)..<min((part + 1) * share, texts)
            var imageRanks = [Int](repeating: 0, count: range.count)
            var textRanks = [Int](repeating: 0, count: images)
            withCosines { cosine in
                for image in 0..<images {
                    let (bestText, bestCosine) = (bestTexts[image], own[bestTexts[image]])
                    for text in range {
                        let value = cosine(image, text)
                        if (value, -image) > (own[text], -owners[text]) { imageRanks[text - range.lowerBound] += 1 }
                        if (value, -text) > (bestCosine, -bestText) { textRanks[image] += 1 }
                    }
                }
            }
            let ready = (images: imageRanks, texts: textRanks)
            found.withLock { found in
                found.images.replaceSubrange(range, with: ready.images)
                for image in 0..<images { found.texts[image] += ready.texts[image] }
            }
        }
        return found.withLock { $0 }
    }

    /// Lends the cosine of a picture and a sentence.
    private func withCosines<Result>(_ body: (_ cosine: (Int, Int) -> Float) -> Result) -> Result {
        imageValues.withUnsafeBufferPointer { images in
            textValues.withUnsafeBufferPointer { texts in
                body { image, text in
                    guard let images = images.baseAddress, let texts = texts.baseAddress else { return 0 }
                    return dot(images + image * dimension, texts + text * dimension, dimension)
                }
            }
        }
    }

    /// The share of the sentences whose picture is among the `count` best of all pictures
    /// (`image_retrieval_recall@count`), and of the pictures of which a sentence is among the `count` best of all
    /// sentences (`text_retrieval_recall@count`), from 0 to 1; not numbers before the first pair. Every cosine is computed.
    public func recalls(at counts: [Int]) -> [(count: Int, image: Double, text: Double)] {
        let (images, texts) = ranks()
        return counts.map { count in
            (
                count, Double(images.count { $0 < count }) / Double(images.count),
                Double(texts.count { $0 < count }) / Double(texts.count)
            )
        }
    }
}
