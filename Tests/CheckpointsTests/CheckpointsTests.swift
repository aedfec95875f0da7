import Checkpoints
import Foundation
import Testing

@Suite("JSON") struct JSONTests {
    @Test("values are read as they are") func values() throws {
        try bytes(
            #" {"a":[1,-2,3.5,1e3,-0.5E-2,0,-0],"b":{"c":null,"d":true,"e":false},"f":"\"\\\/\b\f\n\r\té\u00E9"} "#
        ) {
            let value = try JSON(parsing: $0)
            #expect(value["a"]?.array?.compactMap(\.double) == [1, -2, 3.5, 1000, -0.005, 0, 0])
            #expect(value["a"]?.array?[0].integer == 1 && value["a"]?.array?[2].integer == nil)
            #expect(
                value["b"]?["c"]?.isNull == true && value["b"]?["d"]?.bool == true && value["b"]?["e"]?.bool == false)
            #expect(value["f"]?.string == "\"\\/\u{8}\u{C}\n\r\téé")
        }
        try bytes("9223372036854775807") {
            let value = try JSON(parsing: $0)
            #expect(value.integer == .max)
        }
        try bytes("9223372036854775808") {
            let value = try JSON(parsing: $0)
            #expect(value.integer == nil && value.double == 9223372036854775808)
        }
    }

    @Test(
        "what is not JSON is refused",
        arguments: [
            "", " ", "{", "}", "[1,]", "{\"a\":1,}", "{\"a\"}", "{a:1}", "'a'", "01", "-", "1.", ".5", "1e", "+1",
            "nul",
            "nulll", "tru", "\"", "\"\\", "\"\\x\"", "\"\\u12\"", "\"\\u12G4\"", "\"\\ud83d\"", "\"\\ud83dx\"",
            "\"\n\"",
            "[1 2]", "1 2", "{\"a\":1,\"a\":2}", "1e999", "NaN", "Infinity", "\u{FEFF}1", "[", "[[", "{\"a\":",
        ]) func broken(_ text: String)
    {
        bytes(text) { bytes in #expect(throws: CheckpointError.self) { try JSON(parsing: bytes) } }
    }

    @Test("more values than allowed are refused") func budget() throws {
        try bytes("[1,2,3]") { bytes in
            _ = try JSON(parsing: bytes, limit: 4)
            #expect(throws: CheckpointError.self) { try JSON(parsing: bytes, limit: 3) }
        }
    }
}

@Suite("files") struct FileTests {
    @Test("a file is mapped, let go and still there") func maps() throws {
        try withTemporaryFolder { folder in
            let path = folder + "/file"
            let content = (0..<100_000).map { UInt8(truncatingIfNeeded: $0) }
            try Data(content).write(to: URL(filePath: path))
            let file = try MappedFile(path: path)
            file.willNeed(0..<100_000)
            file.letGo(5..<90_000)
            file.letGo(0..<100_000)
            file.letGo(0..<0)
            #expect(file.withBytes { $0.elementsEqual(content) })
            try Data().write(to: URL(filePath: path))
            #expect(try MappedFile(path: path).withBytes(\.isEmpty))
        }
    }

    @Test(
        "a file of another kind is not taken for safetensors", arguments: ["{\"model_type\": \"clip\"}", "hello", ""])
    func otherKinds(text: String) throws {
        try withTemporaryFolder { folder in
            for name in ["config.json", "weights.pt"] {
                try Data(text.utf8).write(to: URL(filePath: "\(folder)/\(name)"))
                #expect(
                    message { _ = try Checkpoint.open(path: "\(folder)/\(name)") }?.contains(
                        "no weights in a known form")
                        == true)
            }
        }
    }

    @Test("what is no file is named") func refuses() throws {
        try withTemporaryFolder { folder in
            #expect(message { _ = try MappedFile(path: folder) }?.contains("is a folder") == true)
            #expect(message { _ = try MappedFile(path: folder + "/x") }?.contains("No such file") == true)
            #expect(message { _ = try MappedFile(path: "/dev/null") }?.contains("not a regular file") == true)
        }
    }

    @Test("output that is not committed leaves nothing, and an old file stays whole until then") func output() throws {
        try withTemporaryFolder { folder in
            let path = folder + "/out"
            do {
                let file = try OutputFile(path: path)
                try file.write([UInt8](repeating: 1, count: 10))
            }
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)

            try Data([1, 2]).write(to: URL(filePath: path))
            let file = try OutputFile(path: path)
            try file.write([3, 4, 5] as [UInt8])
            #expect(try Data(contentsOf: URL(filePath: path)) == Data([1, 2]))
            try file.commit()
            #expect(try Data(contentsOf: URL(filePath: path)) == Data([3, 4, 5]))

            try FileManager.default.createSymbolicLink(atPath: folder + "/link", withDestinationPath: path)
            let linked = try OutputFile(path: folder + "/link")
            try linked.write([6] as [UInt8])
            try linked.commit()
            #expect(try Data(contentsOf: URL(filePath: path)) == Data([6]))

            // A name that another process holds, or left: it stays as it is.
            let taken = path + ".part-\(getpid())"
            try Data([9]).write(to: URL(filePath: taken))
            let beside = try OutputFile(path: path)
            try beside.write([7] as [UInt8])
            try beside.commit()
            #expect(try Data(contentsOf: URL(filePath: path)) == Data([7]))
            #expect(try Data(contentsOf: URL(filePath: taken)) == Data([9]))

            let null = try OutputFile(path: "/dev/null")
            try null.write([6] as [UInt8])
            try null.commit()
            #expect(message { _ = try OutputFile(path: folder) }?.contains("it is a folder") == true)
            #expect(message { _ = try OutputFile(path: folder + "/no/file") }?.contains("cannot be written") == true)
        }
    }
}

@Suite("npy") struct NumpyTests {
    private func npy(_ header: String, data: Int, version: UInt8 = 1) -> [UInt8] {
        let length = header.utf8.count
        let count =
            version == 1 ? [UInt8(length & 255), UInt8(length >> 8)] : [UInt8(length & 255), UInt8(length >> 8), 0, 0]
        return [0x93] + Array("NUMPY".utf8) + [version, 0] + count + Array(header.utf8)
            + [UInt8](repeating: 7, count: data)
    }

    @Test("arrays of every version and type are read") func reads() throws {
        for (header, data, version, shape, type) in [
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", 24, 1, [2, 3], .float32),
            ("{'descr': '<f8', 'fortran_order': False, 'shape': (), }", 8, 2, [], .float64),
            ("{\"descr\":\"<f2\",\"fortran_order\":True,\"shape\":(3,)}", 6, 3, [3], .float16),
            ("{'shape': (2L, 0), 'fortran_order': False, 'descr': '|u1'}   \n", 0, 1, [2, 0], .uint8),
        ] as [(String, Int, UInt8, [Int], StoredType)] {
            let array = try Numpy.read(TestMemory(npy(header, data: data, version: version)))
            #expect(array.shape == shape && array.type == type && array.content.count == data)
        }
    }

    @Test("what is broken is refused with its own sentence") func refuses() {
        for (header, data, sentence) in [
            ("{'descr': '>f4', 'fortran_order': False, 'shape': (1,)}", 4, "little-endian"),
            ("{'descr': '<i8', 'fortran_order': False, 'shape': (1,)}", 8, "little-endian"),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", 4, "structures"),
            ("{'descr': '<f4', 'fortran_order': True, 'shape': (1,1)}", 4, "Fortran order"),
            ("{'descr': '<f4', 'fortran_order': 1, 'shape': (1,1)}", 4, "neither True nor False"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 4, "takes 8 bytes, but 4"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", 5, "takes 4 bytes, but 5"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", 4, "short list"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296,4294967296)}", 4, "beyond any memory"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", 4, "short list"),
            ("{'descr': '<f4', 'fortran_order': False}", 4, "lacks one of"),
            ("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': ()}", 4, "repeated key"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': ()} x", 4, "goes on after its end"),
            ("{'descr': '<f4", 4, "without end"), ("", 4, "no '{'"),
        ] {
            let found = message { _ = try Numpy.read(TestMemory(npy(header, data: data))) }
            #expect(found?.contains(sentence) == true, "\(found ?? "accepted")")
        }
        for (content, sentence) in [
            ([], "signature"), (Array("PK".utf8), "signature"),
            (npy("", data: 0, version: 4), "format version is 4.0"),
            ([0x93] + Array("NUMPY".utf8) + [1, 0, 255, 255], "NumPy's limit"),
            ([0x93] + Array("NUMPY".utf8) + [1, 0, 255, 0], "ends within"),
            ([0x93] + Array("NUMPY".utf8) + [2, 0, 255, 255], "ends within"),
        ] as [([UInt8], String)] {
            let found = message { _ = try Numpy.read(TestMemory(content)) }
            #expect(found?.contains(sentence) == true, "\(found ?? "accepted")")
        }
    }

    @Test("rows are written with their number, in the bytes that NumPy writes") func writes() throws {
        try withTemporaryFolder { folder in
            let path = folder + "/rows.npy"
            let writer = try NumpyRowWriter(OutputFile(path: path), rowShape: [2])
            try writer.append([1, 2])
            try writer.append([3, 4, 5, 6])
            try writer.commit()
            let rows = try Numpy.open(path: path)
            #expect(rows.shape == [3, 2] && rows.type == .float32)
            #expect(rows.floats == [1, 2, 3, 4, 5, 6])
            #expect((rows.range.lowerBound) % 64 == 0)
        }
    }
}

@Suite("NaN and infinity in weights") struct FiniteScanTests {
    private func tensor(_ type: StoredType, _ content: [UInt8]) -> StoredTensor {
        StoredTensor(
            name: "w", shape: [content.count * 8 / type.bitCount], type: type, memory: TestMemory(content),
            range: 0..<content.count)
    }

    @Test("each is found where it stands, and the largest finite numbers are not") func finds() {
        func bytes<T>(_ values: [T]) -> [UInt8] { values.withUnsafeBytes { Array($0) } }
        let count = 10_007
        for index in [0, 1, 4095, 4096, count - 1] {
            for bad in [Float.nan, .infinity, -.infinity] {
                var floats = [Float](repeating: -.greatestFiniteMagnitude, count: count)
                #expect(tensor(.float32, bytes(floats)).firstNonFinite() == nil)
                floats[index] = bad
                #expect(tensor(.float32, bytes(floats)).firstNonFinite() == index)
                var doubles = [Double](repeating: .greatestFiniteMagnitude, count: count)
                #expect(tensor(.float64, bytes(doubles)).firstNonFinite() == nil)
                doubles[index] = Double(bad)
                #expect(tensor(.float64, bytes(doubles)).firstNonFinite() == index)
                var halves = [Float16](repeating: -.greatestFiniteMagnitude, count: count)
                #expect(tensor(.float16, bytes(halves)).firstNonFinite() == nil)
                halves[index] = Float16(bad)
                #expect(tensor(.float16, bytes(halves)).firstNonFinite() == index)
                var brain = [UInt16](repeating: 0xFF7F, count: count)
                #expect(tensor(.bfloat16, bytes(brain)).firstNonFinite() == nil)
                brain[index] = UInt16(bad.bitPattern >> 16)
                #expect(tensor(.bfloat16, bytes(brain)).firstNonFinite() == index)
            }
        }
        #expect(tensor(.float32, []).firstNonFinite() == nil)
        #expect(tensor(.int32, [255, 255, 255, 255]).firstNonFinite() == nil)
    }

    @Test("of several in a tensor that is shared out over the cores, the first is named") func findsTheFirst() {
        let count = 3 << 20
        for places in [[0], [count - 1], [1 << 19 - 1, 1 << 19], [700_001, 2_000_000], [count - 7, 1_500_000]] {
            var halves = [UInt16](repeating: 0x7BFF, count: count)
            #expect(tensor(.float16, halves.withUnsafeBytes { Array($0) }).firstNonFinite() == nil)
            for place in places { halves[place] = 0x7C00 }
            #expect(tensor(.float16, halves.withUnsafeBytes { Array($0) }).firstNonFinite() == places.min())
        }
    }
}
