import Checkpoints
// Random damage to files of every format: whatever the bytes, the readers return or throw.
import Foundation
import TestSupport
import Testing

@Suite("mutation") struct MutationTests {
    /// More with `CLIP_GPU_MUTATIONS=1000000 swift test -c release --filter mutation`; another seed with
    /// `CLIP_GPU_SEED`.
    static let cases = ProcessInfo.processInfo.environment["CLIP_GPU_MUTATIONS"].flatMap(Int.init) ?? 6000
    static let seed = ProcessInfo.processInfo.environment["CLIP_GPU_SEED"].flatMap(UInt64.init) ?? 1

    static let safetensorsSeeds: [[UInt8]] = [
        safetensors(SafetensorsTests.two, data: 30),
        safetensors(
            #"{"logit_scale":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"a.b":{"dtype":"BF16","shape":[2,2,1],"data_offsets":[4,12]}}"#,
            data: 12),
        safetensors(
            #"{"\u00e9\ud83d\ude00é":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]},"__metadata__":{"x":"y"}}  "#,
            data: 3),
        safetensors("{}"),
    ]
    static let jsonSeeds: [[UInt8]] = [
        Array(#"{"model_type":"clip","a":[1,-2.5e3,true,false,null,"é\u00e9\n"],"b":{"c":{"d":[[],{}]}}}"#.utf8)
    ]
    static let numpySeeds: [[UInt8]] = [
        Numpy.header(shape: [2, 3]) + [UInt8](repeating: 1, count: 24),
        [0x93] + Array("NUMPY".utf8) + [2, 0, 55, 0, 0, 0]
            + Array("{'descr': '|u1', 'fortran_order': True, 'shape': (2L,)}".utf8) + [1, 2],
    ]
    /// Of the two files that `writeShards` makes.
    static let indexSeeds: [[UInt8]] = [
        Array(#"{"metadata":{"total_size":4},"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#.utf8),
        Array(#"{"weight_map": {"b": "2.safetensors"}}"#.utf8),
    ]
    /// Pieces that headers are sensitive to.
    static let pieces: [[UInt8]] = [
        "\"", "\\", "{", "}", "[", "]", ",", ":", "0", "-1", "9223372036854775807", "18446744073709551615", "1e400",
        "\\u",
        "\\ud800", "null", "\"data_offsets\":[0,0]", "\"dtype\":\"F32\"", "\"shape\":[", "4294967296,4294967296", "0,",
        "(", ")",
        "'", "\u{0}", "é", "   ", "\"__metadata__\":{}", "\"F4\"", "..", "/", "1.safetensors",
    ].map { Array($0.utf8) }

    static func mutated(_ seed: [UInt8], _ generator: inout SeededGenerator) -> [UInt8] {
        var bytes = seed
        for _ in 0..<Int.random(in: 1...4, using: &generator) {
            let place = Int.random(in: 0...bytes.count, using: &generator)
            let length = min(Int.random(in: 0...12, using: &generator), bytes.count - place)
            switch Int.random(in: 0..<9, using: &generator) {
            case 0 where place < bytes.count: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            case 1 where place < bytes.count: bytes[place] = .random(in: .min ... .max, using: &generator)
            case 2: bytes.removeSubrange(place..<(place + length))
            case 3:
                bytes.insert(
                    contentsOf: bytes[place..<(place + length)], at: Int.random(in: 0...bytes.count, using: &generator))
            case 4: bytes.removeLast(min(bytes.count, Int.random(in: 0...40, using: &generator)))
            case 5: bytes.append(contentsOf: (0..<length).map { _ in .random(in: .min ... .max, using: &generator) })
            case 6 where bytes.count >= 8:
                // The header's length.
                let value = [0, 1, 2, bytes.count - 8, bytes.count - 7, bytes.count - 9, .max, .min].randomElement(
                    using: &generator)
                withUnsafeBytes(of: (value ?? 0).littleEndian) { bytes.replaceSubrange(0..<8, with: $0) }
            case 7:
                if let digit = bytes.indices.filter({ (0x30...0x39).contains(bytes[$0]) }).randomElement(
                    using: &generator)
                {
                    bytes[digit] = .random(in: 0x30...0x39, using: &generator)
                }
            default: bytes.insert(contentsOf: pieces.randomElement(using: &generator) ?? [], at: place)
            }
        }
        // Half of the time the length is made right again, so that the JSON behind it is reached.
        return bytes
    }

    static func repaired(_ bytes: [UInt8], data: Int) -> [UInt8] {
        guard bytes.count >= 8 + data else { return bytes }
        return withUnsafeBytes(of: UInt64(bytes.count - 8 - data).littleEndian) { Array($0) } + bytes.dropFirst(8)
    }

    static func writeShards(in folder: String) throws {
        for (number, name) in ["a", "b"].enumerated() {
            let header = "{\"\(name)\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}"
            try Data(safetensors(header, data: 2)).write(to: URL(filePath: "\(folder)/\(number + 1).safetensors"))
        }
    }

    @Test("damaged indexes of shards are read or refused, and name no file elsewhere") func indexes() throws {
        var generator = SeededGenerator(seed: Self.seed)
        var accepted = 0
        var sentences: Set<String> = []
        var slowest = 0.0
        try withTemporaryFolder { folder in
            try Self.writeShards(in: folder)
            let path = folder + "/model.safetensors.index.json"
            for _ in 0..<Self.cases {
                let bytes = Self.mutated(Self.indexSeeds.randomElement(using: &generator) ?? [], &generator)
                try Data(bytes).write(to: URL(filePath: path))
                let start = threadSeconds()
                do {
                    let checkpoint = try Checkpoint.openSharded(indexPath: path)
                    accepted += 1
                    #expect(checkpoint.tensors.allSatisfy { ["a", "b"].contains($0.name) && $0.content.count == 2 })
                } catch {
                    sentences.insert(Self.withoutDetails("\(error)".replacing(folder, with: "")))
                }
                slowest = max(slowest, threadSeconds() - start)
            }
        }
        print(
            "\(Self.cases) damaged indexes: \(accepted) read, the others refused with \(sentences.count) sentences; "
                + "the slowest took \(slowest) s")
        #expect(accepted > 0 && sentences.count > 10)
        #expect(slowest < Self.longest)
    }

    /// A case that takes longer hangs, for what it is worth to a user.
    static let longest = 10.0

    @Test("damaged safetensors, JSON and npy are read or refused, and what is read lies within the file") func damage()
    {
        var slowest = 0.0
        var counts: [String: Int] = [:]
        var generator = SeededGenerator(seed: Self.seed)
        var accepted = 0
        var sentences: Set<String> = []
        for _ in 0..<Self.cases {
            let start = threadSeconds()
            switch Int.random(in: 0..<4, using: &generator) {
            case 0, 1:
                counts["safetensors", default: 0] += 1
                let seed = Self.safetensorsSeeds.randomElement(using: &generator) ?? []
                let data = seed.count - 8 - Int(seed[0]) - Int(seed[1]) * 256
                var bytes = Self.mutated(seed, &generator)
                if Bool.random(using: &generator) { bytes = Self.repaired(bytes, data: data) }
                do {
                    let checkpoint = try Safetensors.read(TestMemory(bytes))
                    accepted += 1
                    for tensor in checkpoint.tensors {
                        #expect(tensor.range.lowerBound >= 8 && tensor.range.upperBound <= bytes.count)
                        #expect(tensor.count * tensor.type.bitCount == tensor.range.count * 8)
                        _ = tensor.content
                        _ = tensor.firstNonFinite()
                    }
                } catch {
                    sentences.insert(Self.withoutDetails("\(error)"))
                }
            case 2:
                counts["JSON", default: 0] += 1
                let bytes = Self.mutated(Self.jsonSeeds.randomElement(using: &generator) ?? [], &generator)
                do {
                    _ = try TestMemory(bytes).withBytes { try JSON(parsing: $0, limit: 1000) }
                    accepted += 1
                } catch {
                    sentences.insert(Self.withoutDetails("\(error)"))
                }
            default:
                counts["npy", default: 0] += 1
                let bytes = Self.mutated(Self.numpySeeds.randomElement(using: &generator) ?? [], &generator)
                do {
                    let array = try Numpy.read(TestMemory(bytes))
                    accepted += 1
                    #expect(
                        array.count * array.type.bitCount == array.range.count * 8
                            && array.range.upperBound <= bytes.count)
                } catch {
                    sentences.insert(Self.withoutDetails("\(error)"))
                }
            }
            slowest = max(slowest, threadSeconds() - start)
        }
        print(
            "\(Self.cases) damaged files (\(counts.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }.joined(separator: ", "))): "
                + "\(accepted) read, the others refused with \(sentences.count) sentences; the slowest took \(slowest) s"
        )
        #expect(slowest < Self.longest)
        #expect(accepted > 0 && sentences.count > 30)
    }

    /// A sentence without its numbers and names, so that kinds can be counted.
    private static func withoutDetails(_ sentence: String) -> String {
        var result = ""
        var quoted = false
        for character in sentence {
            if character == "\"" { quoted.toggle() }
            if !quoted, !character.isNumber { result.append(character) }
        }
        return result
    }
}
