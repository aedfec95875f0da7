import Checkpoints
// Files that PyTorch wrote in every form, made by tools/make_archive_fixtures.py, and files to be refused.
import Foundation
import TestSupport
import Testing

@Suite("PyTorch archives") struct PyTorchArchiveTests {
    static let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures").path() + "/"

    private func expectSame(_ found: Checkpoint, _ expected: Checkpoint) throws {
        #expect(Set(found.tensors.map(\.name)) == Set(expected.tensors.map(\.name)))
        for tensor in expected.tensors {
            let other = try #require(found[tensor.name])
            #expect(other.shape == tensor.shape && other.type == tensor.type, "\(tensor.name)")
            #expect(other.content == tensor.content, "\(tensor.name)")
        }
    }

    @Test(
        "the same tensors, whatever form and protocol",
        arguments: (1...5).map { "zip-\($0).pt" } + (2...5).map { "legacy-\($0).pt" } + [
            "training.pt", "scheduler.pt", "wrapped.pth", "repacked.pt",
        ])
    func forms(_ file: String) throws {
        let found = try Checkpoint.open(path: Self.folder + file)
        #expect(found.format == .stateDictionary && found.modules.isEmpty)
        try expectSame(found, Checkpoint.open(path: Self.folder + "tensors.safetensors"))
    }

    @Test("names lose what several devices put before them, in every form") func parallel() throws {
        try expectSame(
            Checkpoint.open(path: Self.folder + "parallel.safetensors"),
            Checkpoint.open(path: Self.folder + "tensors.safetensors"))
    }

    @Test("a TorchScript archive is its tensors by their modules' paths", arguments: ["scripted.pt", "traced.pt"])
    func torchScript(_ file: String) throws {
        let found = try Checkpoint.open(path: Self.folder + file)
        #expect(found.format == .torchScript)
        try expectSame(found, Checkpoint.open(path: Self.folder + "module.safetensors"))
        let activation = try #require(found.modules["inner.gelu"])
        #expect(activation.hasSuffix(".QuickGELU"))
    }

    @Test("element types without a storage class of their own") func untyped() throws {
        let found = try Checkpoint.open(path: Self.folder + "untyped.pt")
        #expect(found["uint16"]?.type == .uint16 && found["uint16"]?.content == [1, 0, 255, 255])
        #expect(found["float8"]?.type == .float8E4M3 && found["float8"]?.content == [0x3C, 0xC0])
    }

    @Test(
        "anything but tensors and containers is refused by name",
        arguments: [
            ("refused-call.pt", "\"posix.system\""), ("refused-numpy.pt", "\"numpy"),
            ("refused-module.pt", "\"__main__.Outer\""),
            ("refused-sparse.pt", "\"torch._utils._rebuild_sparse_tensor\""),
            ("refused-plain.pt", "none that torch.save wrote"), ("refused-no-tensors.pt", "\"epoch\", \"lr\""),
            ("refused-compressed.pt", "compressed"),
        ])
    func refused(_ file: String, _ words: String) {
        let sentence = message { _ = try Checkpoint.open(path: Self.folder + file) }
        #expect(sentence?.contains(words) == true, "\(sentence ?? "it was accepted")")
        #expect(sentence?.hasPrefix(Self.folder + file) == true)
    }

    /// A pickle that would cost more than files of weights do, or speaks of more than there is, and words of its refusal.
    struct Excess: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var pickle: [UInt8]
        var words: String

        init(_ name: String, _ pickle: [UInt8], _ words: String) {
            (testDescription, self.pickle, self.words) = (name, pickle, words)
        }
    }

    static let excessive: [Excess] = {
        func text(_ text: String) -> [UInt8] { Array(text.utf8) }
        func string(_ string: String) -> [UInt8] { text("U") + [UInt8(string.utf8.count)] + text(string) }
        func number(_ value: UInt64) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { Array($0) } }
        func repeated(_ piece: [UInt8], _ count: Int) -> [UInt8] {
            [[UInt8]](repeating: piece, count: count).flatMap(\.self)
        }
        let storage =
            text("((") + string("storage") + text("ctorch\nFloatStorage\n") + string("0") + string("cpu")
            + text("K\u{1}tQK\u{0}")
        func tensor(_ dimensions: Int) -> [UInt8] {
            let sizes = text("(") + repeated(text("K\u{1}"), dimensions) + text("t")
            return text("ctorch._utils\n_rebuild_tensor_v2\n") + storage + sizes + sizes + text("tR.")
        }
        // A list of a thousand pairs, made into a dictionary again and again.
        let pairs =
            text("ccollections\nOrderedDict\nq\u{0}0(") + repeated(text("K\u{1}K\u{2}") + [0x86], 1000) + text("l")
            + [0x85] + text("q\u{1}0") + repeated(text("h\u{0}h\u{1}R0"), 8389)
        return [
            Excess("operations", repeated(text("N0"), 1 << 22), "more than 8388608 operations"),
            Excess("pairs", pairs, "its dictionaries hold more than 8388608 pairs"),
            Excess(
                "deep nesting", repeated(text("]"), 1 << 20) + repeated(text("a"), (1 << 20) - 1) + text("."),
                "none that torch.save wrote"),
            Excess("a list in itself", text("]q\u{0}h\u{0}a."), "none that torch.save wrote"),
            Excess("dimensions", tensor(33), "33 dimensions"),
            Excess("as many dimensions as there may be", tensor(32), "none that torch.save wrote"),
            Excess("a text beyond the end", [0x8D] + number(1 << 40), "cut short"),
            Excess("a text of no possible length", [0x8D] + number(.max), "a length of 18446744073709551615 bytes"),
            Excess("bytes beyond the end", [0x8E] + number(UInt64(Int.max)), "cut short"),
            Excess("an integer beyond the end", [0x8B, 255, 255, 255, 255], "cut short"),
            Excess("a mark that was not set", text("K\u{1}t"), "a mark that was not set"),
            Excess("a value below the mark", text("K\u{1}(0"), "an empty stack"),
            Excess("an entry of the memo that is none", text("h\u{7}"), "the pickle's memo has no entry 7"),
        ]
    }()

    @Test("a pickle that asks for more than a file of weights needs is refused, with the place", arguments: excessive)
    func limits(_ excess: Excess) {
        let sentence = message { _ = try PyTorchArchive.read(TestMemory([0x80, 2] + excess.pickle)) }
        #expect(sentence?.contains(excess.words) == true, "\(sentence ?? "it was accepted")")
        #expect(sentence?.hasPrefix("test.safetensors cannot be read as PyTorch's: ") == true)
    }

    @Test("a file cut short is refused wherever it is cut", arguments: ["zip-2.pt", "legacy-2.pt", "traced.pt"])
    func cut(_ file: String) throws {
        let bytes = [UInt8](try Data(contentsOf: URL(filePath: Self.folder + file)))
        for length in 0..<bytes.count {
            #expect(throws: CheckpointError.self) { try PyTorchArchive.read(TestMemory(Array(bytes[..<length]))) }
        }
    }
}

@Suite("mutation of PyTorch archives") struct PyTorchMutationTests {
    static let seeds: [[UInt8]] = [
        "zip-1.pt", "zip-2.pt", "zip-4.pt", "legacy-2.pt", "legacy-5.pt", "training.pt", "scripted.pt",
        "untyped.pt", "refused-sparse.pt",
    ].compactMap { try? [UInt8](Data(contentsOf: URL(filePath: PyTorchArchiveTests.folder + $0))) }

    /// Pieces that pickles and zip records are sensitive to.
    static let pieces: [[UInt8]] =
        [
            "(", ")", "t", "R", "b", "Q", "s", "u", "e", "0", "1", "2", "q\u{0}", "h\u{0}", ".", "}", "]", "K\u{1}",
            "cos\nsystem\n", "c__torch__\nA\n", "ctorch\nFloatStorage\n", "ccollections\nOrderedDict\n", "PK\u{1}\u{2}",
            "J\u{7F}\u{7F}\u{7F}\u{7F}",
        ].map { Array($0.utf8) } + [
            [0x8B, 255, 255, 255, 127], [0x94], [0x81], [0x85], [0x86], [0x87], [0x93], [0xFF],
        ]

    @Test("damaged archives are read or refused, and what is read lies within the file") func damage() {
        var generator = SeededGenerator(seed: MutationTests.seed)
        var accepted = 0
        var refusals: Set<String> = []
        var slowest = 0.0
        for _ in 0..<MutationTests.cases {
            var bytes = Self.seeds.randomElement(using: &generator) ?? []
            // Pickles lie in the first bytes of legacy files, before the data and the directory of zip archives: damage
            // at one place among them, so that most of the file still says what it should.
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                let place = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0..<6, using: &generator) {
                case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
                case 1: bytes[place] = .random(in: .min ... .max, using: &generator)
                case 2:
                    // In place, so that offsets stay right.
                    for (offset, byte) in (Self.pieces.randomElement(using: &generator) ?? []).enumerated()
                    where place + offset < bytes.count {
                        bytes[place + offset] = byte
                    }
                case 3:
                    let length = Int.random(in: 1...40, using: &generator)
                    let source = Int.random(in: 0..<bytes.count, using: &generator)
                    for offset in 0..<length where max(source, place) + offset < bytes.count {
                        bytes[place + offset] = bytes[source + offset]
                    }
                case 4:
                    let value: UInt32 =
                        [0, 1, .max, 0x7FFF_FFFF, UInt32(bytes.count)].randomElement(using: &generator) ?? 0
                    withUnsafeBytes(of: value) {
                        for (offset, byte) in $0.enumerated() where place + offset < bytes.count {
                            bytes[place + offset] = byte
                        }
                    }
                default: bytes = MutationTests.mutated(bytes, &generator)
                }
                if bytes.isEmpty { break }
            }
            let start = threadSeconds()
            do {
                let checkpoint = try PyTorchArchive.read(TestMemory(bytes))
                accepted += 1
                for tensor in checkpoint.tensors {
                    #expect(tensor.count * tensor.type.bitCount == tensor.range.count * 8)
                    #expect(tensor.range.lowerBound >= 0 && tensor.range.upperBound <= tensor.memory.bytes.count)
                    _ = tensor.content
                    _ = tensor.firstNonFinite()
                }
            } catch {
                refusals.insert(String("\(error)".filter { !$0.isNumber }.prefix(90)))
            }
            slowest = max(slowest, threadSeconds() - start)
        }
        print(
            "\(MutationTests.cases) damaged archives: \(accepted) read, others refused in \(refusals.count) ways; "
                + "the slowest took \(slowest) s")
        #expect(slowest < MutationTests.longest)
        #expect(accepted > 0 && refusals.count > 30)
    }
}
