// Pairs of pictures and sentences: where they are found, and their cosines.

import CLIPGPU
import Foundation
import Testing

private func sample(_ name: String) throws -> [UInt8] {
    Array(try Data(contentsOf: URL(fileURLWithPath: repository + "/tools/samples/" + name)))
}

@Suite("pairs") struct EmbeddingPairsTests {
    private static let star = repository + "/tools/samples/white-star.png"
    private static let heart = repository + "/tools/samples/blue-heart.png"

    /// Name and sentence of each pair; of those that cannot be, the error.
    private func found(_ sources: [String], truncate: Bool = false) throws -> [[String]] {
        let clip = try CLIP.load(device: .cpu)
        var options = PreparationOptions()
        options.truncatesText = truncate
        var found: [[String]] = []
        try clip.embed(pairs: EmbeddingPairs(sources), options: options) { result in
            switch result.cosine {
            case .success: found.append([result.name, result.text])
            case .failure(let error): found.append([error.description])
            }
        }
        return found
    }

    @Test("Cosines are those of the vectors, in the order of the pairs, whatever the batches and what repeats")
    func cosines() throws {
        let clip = try CLIP.load(device: .cpu)
        let names = ["white-star.png", "blue-heart.png", "red-circle.png", "astronaut.jpg"]
        let texts = [
            "a white star", "a blue heart", "a red circle", "a white star and a red circle", "nothing of these",
        ]
        let images = try clip.encodeImage(names.map { try clip.preprocess(sample($0)) })
        let expected = images.cosineSimilarity(to: try clip.encodeText(clip.tokenize(texts)))
        let order = (0..<150).map { (image: $0 * 7 % 4, text: $0 * $0 % 5) }
        let pairs = order.map {
            EmbeddingPair(imageAt: repository + "/tools/samples/" + names[$0.image], text: texts[$0.text])
        }
        var first: [Float] = []
        for batchSize in [nil, 1, 3, 100] {
            var cosines: [Float] = []
            try clip.embed(pairs: pairs, batchSize: batchSize) { result in
                let pair = order[cosines.count]
                #expect(result.name.hasSuffix(names[pair.image]) && result.text == texts[pair.text])
                cosines.append(try result.cosine.get())
            }
            #expect(cosines.count == order.count)
            #expect(zip(cosines, order).allSatisfy { abs($0 - expected[$1.image][$1.text]) < 1e-6 })
            if first.isEmpty { first = cosines }
            #expect(cosines == first)
        }
        var seen = 0
        try clip.embed(pairs: pairs, shouldStop: { seen > 0 }) { _ in seen += 1 }
        #expect(seen > 0 && seen < order.count)
    }

    @Test("Lists hold tabs or JSON; a line that is no pair is named by its place, and the others go on")
    func lists() throws {
        let folder = try TemporaryFolder()
        let list = try folder.write(
            "pairs.tsv",
            "\(Self.star)\ta white\tstar\r\n\nno tab\n{\"text\": \"ein Herz \\u2665\", \"more\": [1, {}], \"image\": \"\(Self.heart)\"}\n"
                + "{\"text\": \"a\"}\n{\"text\": 7}\n/nowhere.png\ta\n\(Self.star)\t\n")
        let found = try found([list])
        #expect(found.count == 7)
        #expect(found[0] == [Self.star, "a white\tstar"] && found[2] == [Self.heart, "ein Herz ♥"])
        #expect(
            found[1][0].hasPrefix("\(list), line 3 is no pair: expected")
                && found[3][0].hasPrefix("\(list), line 5 is no"))
        #expect(found[4][0].hasPrefix("\(list), line 6: "))
        #expect(found[5][0].contains("/nowhere.png") && found[6] == [Self.star, ""])
        #expect(try self.found([folder.path + "/none.tsv"])[0][0].contains("none.tsv cannot be read"))
        let long = try folder.write("long.tsv", "\(Self.star)\t" + String(repeating: "word ", count: 90))
        #expect(try self.found([long])[0][0].contains("too long") && self.found([long], truncate: true)[0].count == 2)
    }

    @Test("Archives hold a picture and a sentence of one name, in either order; what is incomplete is named")
    func archives() throws {
        let folder = try TemporaryFolder()
        let (star, heart) = (try sample("white-star.png"), try sample("blue-heart.png"))
        let whole = try folder.write(
            "a.tar",
            tar([
                ("x/1.png", star), ("x/1.txt", Array("a star \n\n".utf8)), ("x/1.json", [1]),
                ("x/2.txt", Array("a heart".utf8)), ("x/2.seg.png", heart), ("3.txt", [65]), ("4.png", star),
                ("5.png", [1, 2, 3]), ("5.txt", [65]), ("6.png", star), ("6.txt", [66]),
            ]))
        let found = try found([whole])
        #expect(found.count == 5)
        #expect(found[0] == [whole + "/x/1.png", "a star"] && found[1] == [whole + "/x/2.seg.png", "a heart"])
        #expect(found[2] == ["\(whole)/4.png has no sentence: expected a member 4.txt before or after it."])
        #expect(found[3].count == 1 && found[3][0].contains("5.png"))
        #expect(found[4] == [whole + "/6.png", "B"])

        let text = try folder.write("b.tar", tar([("1.txt", [65])]))
        let cut = try folder.write("c.tar", Array(tar([("1.png", star)]).prefix(540)))
        let other = try self.found([text, cut, whole])
        #expect(other.count == 7 && other[0][0].hasPrefix("\(text) holds no pairs") && other[1][0].contains("cut off"))
        #expect(other[2...] == found[...])

        // A pair that is complete where the archive breaks off counts; of several pictures the one named like the sample.
        let members = tar([
            ("1.mask.png", heart), ("1.png", star), ("1.alt.txt", [66]), ("1.txt", [65]), ("2.png", star),
        ])
        let broken = try self.found([folder.write("d.tar", Array(members.prefix(members.count - 1400)))])
        #expect(broken.count == 2 && broken[0] == ["\(folder.path)/d.tar/1.png", "A"])
        #expect(broken.last?[0].contains("cut off") == true)
    }

    @Test("In a folder the sentence stands in a .txt beside the picture")
    func folders() throws {
        let folder = try TemporaryFolder()
        try folder.write("p/a.b.png", sample("white-star.png"))
        try folder.write("p/a.b.txt", "a white star\nwith two lines\n")
        try folder.write("p/deep/c.png", sample("blue-heart.png"))
        let found = try found([folder.path + "/p"])
        #expect(found.count == 2 && found[0] == [folder.path + "/p/a.b.png", "a white star\nwith two lines"])
        #expect(found[1][0].hasPrefix("\(folder.path)/p/deep/c.png has no sentence: "))
        try FileManager.default.createDirectory(atPath: folder.path + "/empty", withIntermediateDirectories: true)
        #expect(try self.found([folder.path + "/empty"])[0][0].contains("holds no pictures"))
    }

    @Test("Recall counts what is found among the best, ties in their order, a picture's several sentences each for it")
    func recall() throws {
        // Angles in a plane: cosines that are easy to see.
        func vector(_ degrees: Double) -> ArraySlice<Float> {
            [Float(cos(degrees * .pi / 180)), Float(sin(degrees * .pi / 180))]
        }
        var recall = RetrievalRecall()
        // Picture, its angle, the sentence's angle.
        for (name, image, text) in [("a", 0.0, 4.0), ("b", 20, 9), ("a", 0, 50), ("c", 40, 41), ("d", 60, 4)] {
            recall.add(name, image: vector(image), text: vector(text))
        }
        #expect((recall.images, recall.texts) == (4, 5))
        // Sentences at 4, 9, 50, 41, 4 among pictures at 0, 20, 40, 60: ranks 0, 1, 3, 0, 3 (of equal ones the earlier picture).
        let found = recall.recalls(at: [1, 2, 3, 4])
        #expect(found.map(\.count) == [1, 2, 3, 4])
        #expect(found.map(\.image) == [0.4, 0.6, 0.6, 1])
        // Pictures at 0, 20, 40, 60 among sentences: best own 4, 9, 41, 4, of which the last is behind 50, 41 and 9, and the other 4.
        #expect(found.map(\.text) == [0.75, 0.75, 0.75, 0.75])
        #expect(recall.recalls(at: [5])[0].text == 1)
        #expect(RetrievalRecall().recalls(at: [1])[0].image.isNaN)
    }

    @Test("Recall is what sorting every row gives")
    func recallOfMany() throws {
        var state: UInt64 = 7
        func vector() -> ArraySlice<Float> {
            let values = (0..<6).map { _ -> Float in
                state = state &* 6_364_136_223_846_793_005 &+ 1
                return Float(Int(state >> 40) - (1 << 23)) / Float(1 << 23)
            }
            return Embeddings(values: values, dimension: 6).normalized().values[...]
        }
        let images = (0..<90).map { _ in vector() }
        let owners = (0..<301).map { $0 < 90 ? $0 : Int($0 * 31 % 90) }
        let texts = owners.map { owner in
            zip(images[owner], vector()).map { $0 + 0.8 * $1 }
        }.map { Embeddings(values: $0, dimension: 6).normalized().values[...] }
        var recall = RetrievalRecall()
        for (text, owner) in owners.enumerated() { recall.add("\(owner)", image: images[owner], text: texts[text]) }
        func cosine(_ image: Int, _ text: Int) -> Float {
            zip(images[image], texts[text]).reduce(0) { $0 + $1.0 * $1.1 }
        }
        for (count, image, text) in recall.recalls(at: [1, 5, 10]) {
            let byText = owners.indices.count { text in
                images.indices.sorted { cosine($0, text) > cosine($1, text) }.prefix(count).contains(owners[text])
            }
            let byImage = images.indices.count { image in
                owners.indices.sorted { cosine(image, $0) > cosine(image, $1) }.prefix(count).contains {
                    owners[$0] == image
                }
            }
            #expect(image == Double(byText) / 301 && text == Double(byImage) / 90)
            #expect(image > 0 && image < 1)
        }
    }
}
