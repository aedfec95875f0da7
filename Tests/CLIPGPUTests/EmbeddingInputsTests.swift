import CLIPGPU
import Foundation
import Testing

/// Names of what the walk yields, and sentences of what it could not look into.
private func walk(_ inputs: EmbeddingInputs) -> [String] {
    inputs.map { input in
        if case .failure(let error) = input.content { return "failed: \(error.description)" }
        return "\(input.kind.rawValue): \(input.name)"
    }
}

@Test("A folder is walked by name, depth first, pictures only")
func folder() throws {
    let folder = try TemporaryFolder()
    for name in ["b.png", "a/z.JPG", "a/y.webp", "a.gif", "notes.txt", ".hidden.png", "c/.git/x.png", "Z.jpeg"] {
        try folder.write(name, [1])
    }
    let root = folder.path
    #expect(
        walk(EmbeddingInputs(paths: [root]))
            == ["Z.jpeg", "a/y.webp", "a/z.JPG", "a.gif", "b.png"].map { "image: \(root)/\($0)" })
    #expect(EmbeddingInputs(paths: [root], texts: ["x"]).count() == 6)
}

@Test("A name that is not UTF-8 fails in its place, where it is of a picture or of a folder")
func lostNames() throws {
    let folder = try TemporaryFolder()
    let root = folder.path
    for name in ["a.png", "z.png", "caf\u{FFFD}.png"] { try folder.write(name, onePixelPNG) }
    /// A path with bytes of Latin-1.
    func path(_ name: [UInt8]) -> [CChar] { (Array(root.utf8) + [0x2F] + name + [0]).map { CChar(bitPattern: $0) } }
    let latin = Array("caf".utf8) + [0xE9]
    guard mkdir(path(latin), 0o755) == 0 else { return }  // This file system takes no such names.
    for ending in [".png", ".pdf"] {
        let file = try #require(fopen(path(latin + Array(ending.utf8)), "w"))
        fclose(file)
    }
    symlink(root, path(latin + Array("-link".utf8)))
    let reason = "cannot be read: its name is not UTF-8; rename it."
    // One whose name has the mark itself is there, beside the one that is shown like it.
    #expect(
        walk(EmbeddingInputs(paths: [root])).sorted()
            == [
                "failed: \(root)/caf\u{FFFD} \(reason)", "failed: \(root)/caf\u{FFFD}.png \(reason)",
                "image: \(root)/a.png", "image: \(root)/caf\u{FFFD}.png", "image: \(root)/z.png",
            ])
    #expect(EmbeddingInputs(paths: [root]).count() == 5)
    for ending in ["tar", "npy"] {
        #expect(
            walk(EmbeddingInputs(paths: ["caf\u{FFFD}.\(ending)", root + "/none.\(ending)"])) == [
                "failed: caf\u{FFFD}.\(ending) \(reason)",
                "failed: \(root)/none.\(ending) cannot be read: No such file or directory.",
            ])
    }
}

@Test("A folder without pictures fails by name, and what follows goes on")
func emptyFolder() throws {
    let folder = try TemporaryFolder()
    try folder.write("notes.txt", "x")
    let found = walk(EmbeddingInputs(paths: [folder.path, "named.bin"], texts: ["a cat"]))
    #expect(found.count == 3)
    #expect(found[0].hasPrefix("failed: \(folder.path) holds no pictures"))
    #expect(found[1...] == ["image: named.bin", "text: a cat"])
}

@Test("A sentence that spells mT5's padding token is refused by itself, and the others are embedded")
func paddingInside() throws {
    let folder = try TemporaryFolder()
    let (model, fixtures) = (folder.path + "/model", repository + "/Tests/")
    try FileManager.default.copyItem(atPath: fixtures + "CLIPModelTests/Fixtures/open-clip-mt5", toPath: model)
    // mT5's tokenizer with as many pieces as the model has, the most frequent.
    let tokenizer = fixtures + "CLIPInputTests/Fixtures/tokenizers/t5-json/"
    let data = try Data(contentsOf: URL(fileURLWithPath: tokenizer + "tokenizer.json"))
    var file = try #require(JSONSerialization.jsonObject(with: data) as? [String: Any])
    var pieces = try #require(file["model"] as? [String: Any])
    pieces["vocab"] = try Array(#require(pieces["vocab"] as? [Any]).prefix(130))
    file["model"] = pieces
    try folder.write("model/tokenizer.json", Array(JSONSerialization.data(withJSONObject: file)))
    try FileManager.default.copyItem(
        atPath: tokenizer + "tokenizer_config.json", toPath: model + "/tokenizer_config.json")

    let clip = try CLIP.load(model, device: .cpu)
    var found: [String] = []
    try clip.embed(EmbeddingInputs(texts: ["a photo", "a <pad> photo", "A photo"])) { result in
        switch result.embedding {
        case .success: found.append(result.name)
        case .failure(let error): found.append(error.description)
        }
    }
    #expect(
        found == [
            "a photo",
            "The text \"a <pad> photo\" holds the padding token 0 before its end, where distances between tokens cannot be "
                + "told.",
            "A photo",
        ])
}

@Test("Lines of a text file are sentences, empty ones included, whatever their ends")
func textFile() throws {
    let folder = try TemporaryFolder()
    let path = try folder.write("t.txt", "one\r\n\ntwo\nthree")
    #expect(walk(EmbeddingInputs(textFiles: [path])) == ["text: one", "text: ", "text: two", "text: three"])
    #expect(walk(EmbeddingInputs(textFiles: [folder.path + "/none"]))[0].hasPrefix("failed: "))
    #expect(EmbeddingInputs(textFiles: [path, folder.path + "/none"]).count() == 5)
    // What is counted in a pipe would be gone; opening it would wait for a writer.
    mkfifo(folder.path + "/pipe", 0o600)
    #expect(EmbeddingInputs(textFiles: [folder.path + "/pipe"]).count() == nil)
    #expect(EmbeddingInputs(textFiles: ["-"]).count() == nil)
}

@Test("Members of an archive are named after it; a broken archive fails and the rest goes on")
func archive() throws {
    let folder = try TemporaryFolder()
    let whole = try folder.write("a.tar", tar([("x/1.png", onePixelPNG), ("x/1.txt", [1]), ("2.jpg", [2])]))
    let cut = try folder.write("b.tar", Array(tar([("1.png", onePixelPNG)]).prefix(540)))
    let found = walk(EmbeddingInputs(paths: [whole, cut], texts: ["t"]))
    #expect(found[0...1] == ["image: \(whole)/x/1.png", "image: \(whole)/2.jpg"])
    #expect(found[2].hasPrefix("failed: \(cut) ends within a member"))
    #expect(found[3] == "text: t")
}

@Test("Rows of a tensor are named by their number; other shapes are refused")
func tensor() throws {
    let folder = try TemporaryFolder()
    func npy(_ shape: String, _ count: Int) -> [UInt8] {
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': \(shape), }\n"
        return [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(header.utf8.count), 0] + Array(header.utf8)
            + [UInt8](repeating: 0, count: count * 4)
    }
    let good = try folder.write("p.npy", npy("(2, 3, 4, 4)", 96))
    let bad = try folder.write("q.npy", npy("(2, 4, 4)", 32))
    let found = walk(EmbeddingInputs(paths: [good, bad]))
    #expect(found[0...1] == ["image: \(good)[0]", "image: \(good)[1]"])
    #expect(found[2].contains("expected floats as [n, 3, height, width]"))
}

/// A ustar archive of regular files.
func tar(_ members: [(name: String, bytes: [UInt8])]) -> [UInt8] {
    var archive: [UInt8] = []
    for member in members {
        var header = [UInt8](repeating: 0, count: 512)
        func put(_ text: String, at offset: Int) {
            header.replaceSubrange(offset..<(offset + text.utf8.count), with: text.utf8)
        }
        put(member.name, at: 0)
        let digits = String(member.bytes.count, radix: 8)
        put(String(repeating: "0", count: 11 - digits.count) + digits, at: 124)
        put("        ", at: 148)
        put("0", at: 156)
        put("ustar", at: 257)
        let sum = String(header.reduce(0) { $0 + Int($1) }, radix: 8)
        put(String(repeating: "0", count: 6 - sum.count) + sum + "\0 ", at: 148)
        archive += header + member.bytes + [UInt8](repeating: 0, count: (512 - member.bytes.count % 512) % 512)
    }
    return archive + [UInt8](repeating: 0, count: 1024)
}
