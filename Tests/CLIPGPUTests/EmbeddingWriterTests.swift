import CLIPGPU
import Testing

private func write(_ format: EmbeddingFormat, to path: String) throws {
    let writer = try EmbeddingWriter(path: path, format: format, dimension: 2)
    try writer.append([1, -0.5], input: "a \"b\",\n", kind: .image)
    try writer.append([0.1, 1e-30], input: "c", kind: .text)
    try writer.finish()
}

@Test("jsonl: a row is an object with input, kind and numbers that read back exactly")
func jsonl() throws {
    let folder = try TemporaryFolder()
    try write(.jsonl, to: folder.path + "/o.jsonl")
    #expect(
        String(decoding: try folder.read("o.jsonl"), as: UTF8.self)
            == "{\"input\": \"a \\\"b\\\",\\n\", \"kind\": \"image\", \"embedding\": [1.0, -0.5]}\n"
            + "{\"input\": \"c\", \"kind\": \"text\", \"embedding\": [0.1, 1e-30]}\n")
    #expect(try folder.names() == ["o.jsonl"])
}

@Test("csv: quoted by RFC 4180")
func csv() throws {
    let folder = try TemporaryFolder()
    try write(.csv, to: folder.path + "/o.csv")
    #expect(
        String(decoding: try folder.read("o.csv"), as: UTF8.self)
            == "input,kind,e0,e1\n\"a \"\"b\"\",\n\",image,1.0,-0.5\nc,text,0.1,1e-30\n")
}

@Test(
    "npy and safetensors hold the rows, and say beside them what each row is",
    arguments: [EmbeddingFormat.npy, .safetensors])
func arrays(format: EmbeddingFormat) throws {
    let folder = try TemporaryFolder()
    try write(format, to: folder.path + "/o")
    let bytes = try folder.read("o")
    let expected: [Float] = [1, -0.5, 0.1, 1e-30]
    let tail = bytes.suffix(16)
    let values = Array(tail).withUnsafeBytes { raw in
        (0..<4).map { raw.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) }
    }
    #expect(values == expected)
    let header = String(decoding: bytes.dropLast(16), as: UTF8.self)
    #expect(header.contains(format == .npy ? "'shape': (2, 2)" : "\"shape\":[2,2]"))
    #expect(
        String(decoding: try folder.read("o.inputs.jsonl"), as: UTF8.self)
            == "{\"row\": 0, \"input\": \"a \\\"b\\\",\\n\", \"kind\": \"image\"}\n{\"row\": 1, \"input\": \"c\", \"kind\": \"text\"}\n"
    )
}

@Test("What was not finished leaves nothing behind, and an old file as it was", arguments: EmbeddingFormat.allCases)
func abandoned(format: EmbeddingFormat) throws {
    let folder = try TemporaryFolder()
    try folder.write("o", "old")
    do {
        let writer = try EmbeddingWriter(path: folder.path + "/o", format: format, dimension: 2)
        try writer.append([1, 2], input: "a", kind: .text)
        writer.abandon()
    }
    #expect(try folder.names() == ["o"])
    #expect(try folder.read("o") == Array("old".utf8))
}

@Test("Numbers that are not finite are never written", arguments: [Float.nan, .infinity])
func notFinite(number: Float) throws {
    let folder = try TemporaryFolder()
    let writer = try EmbeddingWriter(path: folder.path + "/o", format: .jsonl, dimension: 2)
    #expect(throws: CLIPError.self) { try writer.append([1, number], input: "a", kind: .text) }
}

@Test("An output that cannot be written is an error of the output")
func unwritable() {
    let error = #expect(throws: CLIPError.self) {
        _ = try EmbeddingWriter(path: "/nonexistent/folder/o.npy", format: .npy, dimension: 2)
    }
    #expect(error?.code == .output)
}

@Test("The format is what the name ends in", arguments: [("a.NPY", "npy"), ("x/y.csv", "csv"), ("a.txt", "jsonl")])
func formatByName(path: String, format: String) {
    #expect(EmbeddingFormat(path: path).rawValue == format)
}
