import Checkpoints
import Foundation
import TestSupport
import Testing

@Suite("safetensors") struct SafetensorsTests {
    static let two = #"""
        {"__metadata__":{"format":"pt"},"b":{"dtype":"F16","shape":[3],"data_offsets":[24,30]},
        "a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"c":{"dtype":"I64","shape":[0],"data_offsets":[24,24]}}
        """#

    @Test("tensors are found by name, in the file's order, with their bytes") func reads() throws {
        let checkpoint = try Safetensors.read(TestMemory(safetensors(Self.two, data: 30)))
        #expect(checkpoint.tensors.map(\.name) == ["a", "c", "b"])
        #expect(checkpoint.metadata == ["format": "pt"])
        let b = try #require(checkpoint["b"])
        #expect(b.shape == [3] && b.type == .float16 && b.content == [24, 25, 26, 27, 28, 29])
        #expect(checkpoint["c"]?.count == 0 && checkpoint["d"] == nil)
    }

    @Test("a header may be padded with spaces, hold unknown members and escapes") func tolerates() throws {
        let header = #" {"\u00e9\ud83d\ude00":{"dtype":"U8","x":[1,{"y":null}],"shape":[],"data_offsets":[0,1]}}  "#
        #expect(throws: CheckpointError.self) { try Safetensors.read(TestMemory(safetensors(header, data: 1))) }
        let checkpoint = try Safetensors.read(TestMemory(safetensors(String(header.dropFirst()), data: 1)))
        #expect(checkpoint.tensors.map(\.name) == ["é😀"])
        #expect(try Safetensors.read(TestMemory(safetensors("{}"))).tensors.isEmpty)
    }

    /// What each broken file must be refused for.
    static let broken: [(header: String, data: Int, sentence: String)] = [
        ("", 0, "does not begin with '{'"),
        ("{", 0, "does not begin with '{'"),
        ("[]", 0, "does not begin with '{'"),
        ("{} x", 0, "text after the end"),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"#, 4, "expected '\"' and found the end"),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 3, "the file is cut short"),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 5, "1 bytes after the last tensor"),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8, "4 bytes between the start and \"a\""),
        (
            #"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}}"#,
            7, "\"b\" at 3 overlaps \"a\""
        ),
        (
            #"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#,
            8, "names \"a\" twice"
        ),
        (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4, "takes 8 bytes, but has 4"),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, 4, "not a start and an end"),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}"#, 4, "not a start and an end"),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}"#, 4, "more than 2 numbers"),
        (#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 4, "whole number of 0 or more"),
        (#"{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}"#, 4, "whole number of 0 or more"),
        (#"{"a":{"dtype":"F32","shape":[01],"data_offsets":[0,4]}}"#, 4, "begins with 0"),
        (#"{"a":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,4]}}"#, 4, "whole number of 0 or more"),
        (
            #"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}"#, 4,
            "no whole number of bytes that fits"
        ),
        (
            #"{"a":{"dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}}"#, 0,
            "no whole number of bytes that fits"
        ),
        (#"{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}"#, 1, "no whole number of bytes that fits"),
        (#"{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}"#, 4, "unknown element type \"F99\""),
        (#"{"a":{"shape":[1],"data_offsets":[0,4]}}"#, 4, "lacks one of"),
        (#"{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, 1, "has dtype twice"),
        (#"{"__metadata__":{"a":1}}"#, 0, "expected '\"'"),
        (#"{"__metadata__":{"a":"x","a":"y"}}"#, 0, "metadata name \"a\" twice"),
        (#"{"a":[]}"#, 0, "expected '{'"),
        ("{\"a\u{1}\":1}", 0, "control character"),
        (#"{"\ud800":1}"#, 0, "surrogate"),
        (#"{"\udc00\ud800":1}"#, 0, "surrogate"),
        (
            #"{"a":{"dtype":"U8","shape":["# + String(repeating: "1,", count: 40) + #"1],"data_offsets":[0,1]}}"#, 1,
            "more than 32"
        ),
        (#"{"a":{"x":"# + String(repeating: "[", count: 100_000), 0, "nested more than 64"),
        (#"{"a":{"x":["# + String(repeating: "0,", count: 2000) + #"0]}}"#, 0, "too many JSON values"),
    ]

    @Test("what is broken is refused with its own sentence", arguments: broken)
    func refuses(_ header: String, _ data: Int, _ sentence: String) {
        let found = message { _ = try Safetensors.read(TestMemory(safetensors(header, data: data))) }
        #expect(found?.contains(sentence) == true, "\(found ?? "accepted")")
        #expect(found?.hasPrefix("test.safetensors is not a sound safetensors file: ") == true)
    }

    @Test("lengths that lie are refused") func lengths() {
        for (content, sentence) in [
            ([], "has 0 bytes"), ([1, 2, 3], "has 3 bytes"),
            ([255, 255, 255, 255, 255, 255, 255, 255], "more than the format's"),
            ([0, 0, 0, 0, 0, 0, 0, 128], "more than the format's"),
            ([100, 0, 0, 0, 0, 0, 0, 0, 123], "only 1 follow"),
        ] as [([UInt8], String)] {
            #expect(message { _ = try Safetensors.read(TestMemory(content)) }?.contains(sentence) == true)
        }
    }

    @Test("a header that is not UTF-8 is refused") func utf8() {
        var content = safetensors(#"{"ab":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, data: 1)
        content[10] = 0xC3
        #expect(message { _ = try Safetensors.read(TestMemory(content)) }?.contains("not UTF-8") == true)
    }

    @Test("a header takes time in proportion to its tensors") func speed() throws {
        func seconds(_ count: Int) throws -> Double {
            let members = (0..<count).map {
                "\"text_model.encoder.layers.\($0).self_attn.out_proj.weight\":"
                    + "{\"dtype\":\"F32\",\"shape\":[16,1],\"data_offsets\":[\($0 * 64),\($0 * 64 + 64)]}"
            }
            let memory = TestMemory(safetensors("{\(members.joined(separator: ","))}", data: count * 64))
            let start = threadSeconds()
            #expect(try Safetensors.read(memory).tensors.count == count)
            return threadSeconds() - start
        }
        // 50,000 tensors take about 0.1 s; if each were compared with each, a minute.
        #expect(try seconds(50_000) < 5)
    }

    @Test("what is written is read again; rows are counted at the end") func writes() throws {
        try withTemporaryFolder { folder in
            let source = try Safetensors.read(TestMemory(safetensors(Self.two, data: 30)))
            let path = folder + "/copy.safetensors"
            try Safetensors.write(source.tensors, metadata: [("a \"quote\"", "tab\t\u{1}")], to: OutputFile(path: path))
            let copy = try Safetensors.open(path: path)
            #expect(copy.metadata == ["a \"quote\"": "tab\t\u{1}"])
            #expect(copy.tensors.map { $0.content } == source.tensors.map { $0.content })

            let rowPath = folder + "/rows.safetensors"
            let writer = try SafetensorsRowWriter(
                OutputFile(path: rowPath), name: "embeddings", columns: 3, metadata: [("model", "é")])
            try writer.append([1, 2, 3])
            try writer.append([4, 5, 6, 7, 8, 9])
            #expect(!MappedFile.exists(rowPath), "nothing stands under the final name before the end")
            try writer.commit()
            let rows = try Safetensors.open(path: rowPath)
            #expect(rows["embeddings"]?.shape == [3, 3] && rows.metadata == ["model": "é"])
            #expect(rows["embeddings"]?.floats.last == 9)
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder).count == 2)
        }
    }

    @Test("shards are put together, and an index that lies is refused") func shards() throws {
        try withTemporaryFolder { folder in
            func shard(_ name: String, _ tensor: String) throws {
                let header = "{\"\(tensor)\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}"
                try Data(safetensors(header, data: 2)).write(to: URL(filePath: folder + "/" + name))
            }
            func index(_ text: String) throws -> Checkpoint {
                let path = folder + "/model.safetensors.index.json"
                try Data(text.utf8).write(to: URL(filePath: path))
                return try Checkpoint.openSharded(indexPath: path)
            }
            try shard("1.safetensors", "a")
            try shard("2.safetensors", "b")
            try shard("3.safetensors", "a")
            let both = try index(#"{"metadata":{},"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#)
            #expect(both["a"]?.shape == [2] && both["b"]?.shape == [2])
            for (text, sentence) in [
                (
                    #"{"weight_map":{"a":"1.safetensors","c":"2.safetensors"}}"#,
                    "holds the tensor \"c\", but it does not"
                ),
                (#"{"weight_map":{"a":"1.safetensors","b":"3.safetensors"}}"#, "\"b\""),
                (#"{"weight_map":{"a":"../1.safetensors"}}"#, "not the name of a file beside"),
                (#"{"weight_map":{"a":".."}}"#, "not the name of a file beside"),
                (#"{"weight_map":{"a":7}}"#, "not the name of a file beside"),
                (#"{"weight_map":{"a":"4.safetensors"}}"#, "cannot be opened"),
                (#"{"weight_map":{}}"#, "no \"weight_map\""),
                (#"{"weight_map":[]}"#, "no \"weight_map\""),
                (#"{"weight_map""#, "expected ':'"),
            ] {
                let found = message { _ = try index(text) }
                #expect(found?.contains(sentence) == true, "\(found ?? "accepted")")
            }
            try shard("2.safetensors", "a")
            #expect(
                message { _ = try index(#"{"weight_map":{"a":"1.safetensors","x":"2.safetensors"}}"#) } != nil)
        }
    }
}

func withTemporaryFolder(_ body: (String) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "clip-gpu-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try body(folder.path())
}
