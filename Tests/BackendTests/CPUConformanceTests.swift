// The CPU backend under the conformance suite: every instruction set that this machine has, both ways of multiplying
// matrices, one thread and several. tools/check-neon runs these tests on an emulated ARM processor.
//
// `CLIP_GPU_CONFORMANCE=quick` leaves out the suite's large cases.

import BackendTesting
import CLIPCompute
import CPUBackend
import Foundation
import Testing

@Suite struct CPUConformanceTests {
    struct Way: Sendable, CustomTestStringConvertible {
        var set: InstructionSet
        var product: MatrixProduct
        var threads: Int
        var precision = Precision.fp32
        /// Every pass is one thread's.
        var usesLanes = false

        var options: CPUOptions {
            CPUOptions(
                threads: threads, precision: precision, matrixProduct: product, instructionSet: set,
                usesLanesAlways: usesLanes)
        }
        var testDescription: String {
            "\(precision.rawValue), \(set.name), products \(product.rawValue), threads \(threads)"
                + (usesLanes ? ", a pass each" : "")
        }
    }

    static let ways: [Way] = InstructionSet.available.flatMap { set in
        var ways = [
            Way(set: set, product: .own, threads: 1), Way(set: set, product: .own, threads: 3),
            Way(set: set, product: .own, threads: 1, precision: .int8),
            Way(set: set, product: .own, threads: 3, precision: .int8),
        ]
        if set == .best {
            ways += [Precision.fp32, .int8].map {
                Way(set: set, product: .own, threads: 2, precision: $0, usesLanes: true)
            }
        }
        if let reason = CPUBackend.openBLASProblem {
            print("not run: \(reason)")
        } else {
            ways.append(Way(set: set, product: .openBLAS, threads: 2))
        }
        return ways
    }

    @Test("the CPU backend conforms", arguments: ways) func conforms(_ way: Way) throws {
        let backend = try CPUBackend(options: way.options)
        print("conformance on \(backend.device.name): \(backend.device.capabilities.joined(separator: ", "))")
        // One thread takes fewer ways through the code: the whole suite on the best set is enough.
        let isQuick = ProcessInfo.processInfo.environment["CLIP_GPU_CONFORMANCE"] == "quick"
        let cases = !isQuick && (way.threads > 1 || way.set == .best) ? Conformance.full : Conformance.quick
        let results = Conformance.run(cases, on: backend)
        for result in results { #expect(result.passed, "\(way.testDescription): \(result)") }
        let worst = results.map(\.share).max() ?? 0
        print("\(way.testDescription): \(cases.count) cases, worst \(Int((worst * 100).rounded(.up))) % of tolerance")
    }

    @Test("the number of threads changes no byte", arguments: ways.filter { $0.threads > 1 })
    func threads(_ way: Way) throws {
        var alone = way.options
        alone.threads = 1
        var many = way.options
        many.threads = 5
        let expected = try block(on: CPUBackend(options: alone))
        let finite = expected.allSatisfy { $0.isFinite }
        #expect(finite)
        let some = try block(on: CPUBackend(options: way.options))
        #expect(some == expected)
        let most = try block(on: CPUBackend(options: many))
        #expect(most == expected)
    }

    @Test(
        "weights that are halves take half the memory and change no byte",
        arguments: ways.filter { $0.precision == .fp32 && $0.product == .own })
    func halves(_ way: Way) throws {
        let backend = try CPUBackend(options: way.options)
        let convertsHalves = way.set > .base || InstructionSet.base.name == "neon"
        var generator = Generator("halves")
        for (rows, inputs, outputs, gated, normed) in [
            (1, 1, 2, false, false), (5, 33, 8, false, true), (6, 768, 33, false, false), (7, 800, 130, true, false),
            (13, 64, 64, false, true), (50, 1600, 48, false, false), (97, 100, 70, true, true),
            (600, 96, 40, false, false),
        ] {
            // Among them what halves have of zeros, subnormal numbers and their greatest.
            var weights = generator.normals(outputs * inputs).map { Float(Float16($0)) }
            for (index, special) in [Float(-0.0), 0x1p-24, 0x1.ff8p-15, 65504].enumerated() {
                weights[index * 7 % weights.count] = special
            }
            let x = generator.normals(rows * inputs)
            let gain = HostTensor(generator.normals(inputs), shape: [inputs])
            /// All outputs but the last, of the first use and the second.
            func results(_ weights: [Float], as type: ElementType) throws -> (values: [[UInt32]], bytes: Int) {
                let linear = try backend.prepare(
                    LinearParameters(
                        weight: HostMatrix(HostTensor(weights, shape: [outputs, inputs], as: type)),
                        norm: normed ? NormParameters(weight: gain, bias: nil, epsilon: 1e-5) : nil,
                        activation: .quickGELU, gated: gated))
                let count = gated ? outputs / 2 : outputs
                let values = try (0..<2).map { _ in
                    try backend.begin()
                    let matrix = try backend.upload(x, rows: rows, columns: inputs)
                    let result = try backend.wait(backend.submit(backend.linear(matrix, linear)))
                    return result.indices.filter { $0 % count != count - 1 }.map { result[$0].bitPattern }
                }
                return (values, linear.heldBytes)
            }
            let half = try results(weights, as: .float16)
            let float = try results(weights, as: .float32)
            weights[weights.count - 1] = 0.1  // no half: all are held as floats
            let wide = try results(weights, as: .float32)
            #expect(half.values == wide.values && float.values == wide.values, "\(rows) x \(inputs) x \(outputs)")
            #expect(wide.values[0] == wide.values[1] && wide.bytes >= 4 * outputs * inputs)
            #expect(half.bytes == (convertsHalves ? wide.bytes / 2 : wide.bytes) && float.bytes == half.bytes)
        }
    }

    @Test("int8 products are the same bits on every instruction set", arguments: [1, 3])
    func int8(threads: Int) throws {
        // Without a norm and a curved activation, whose functions differ in their last bits; widths that fit no
        // vector, the greatest values there are, and rows of zeros.
        func results(_ set: InstructionSet) throws -> [[UInt32]] {
            let backend = try CPUBackend(options: CPUOptions(threads: threads, precision: .int8, instructionSet: set))
            var generator = Generator("int8")
            return try [(1, 1, 1), (3, 7, 5), (50, 85, 70), (131, 256, 130), (7, 3072, 33)].flatMap { sizes in
                let (rows, inputs, outputs) = sizes
                let weight = generator.normals(2 * outputs * inputs)
                var x = generator.normals(rows * inputs)
                for i in 0..<inputs { x[i] = i % 5 == 0 ? 0 : 8 }
                let extreme = weight.map { $0 < 0 ? Float(-1) : 1 }
                func vector(_ count: Int) -> HostTensor { HostTensor(generator.normals(count), shape: [count]) }
                func matrix(_ values: [Float]) -> HostMatrix {
                    HostMatrix(HostTensor(values, shape: [2 * outputs, inputs]))
                }
                let parameters = [
                    LinearParameters(weight: matrix(weight), bias: [vector(2 * outputs)]),
                    LinearParameters(weight: matrix(extreme), bias: [vector(2 * outputs)]),
                    LinearParameters(
                        weight: matrix(weight), activation: .relu, gated: true, layerScale: vector(outputs)),
                ]
                return try parameters.map { parameters in
                    let linear = try backend.prepare(parameters)
                    try backend.begin()
                    let matrix = try backend.upload(x, rows: rows, columns: inputs)
                    return try backend.wait(backend.submit(backend.linear(matrix, linear))).map(\.bitPattern)
                }
            }
        }
        let expected = try results(.base)
        let zero = expected.allSatisfy { $0.allSatisfy { $0 << 1 == 0 } }
        #expect(!zero)
        for set in InstructionSet.available where set > .base {
            #expect(try results(set) == expected, "\(set.name)")
        }
        // The same on machines of other kinds too: FNV-1a of the bits, as SSE2 gives them.
        let hash = expected.joined().reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        #expect(hash == 0x36bd_ec2e_334f_1c4b)
    }

    /// A transformer block and a pooled one, of widths that fit no vector, on sequences of 1 to 130 rows.
    private func block(on backend: CPUBackend) throws -> [Float] {
        let width = 84
        let hidden = 200
        var state: UInt64 = 1
        func draw(_ count: Int, _ deviation: Float) -> [Float] {
            (0..<count).map { _ in
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                return (Float(state >> 40) / Float(1 << 23) - 1) * deviation
            }
        }
        func vector(_ count: Int) -> HostTensor { HostTensor(draw(count, 1), shape: [count]) }
        func matrix(_ rows: Int, _ columns: Int) -> HostMatrix {
            HostMatrix(HostTensor(draw(rows * columns, 0.2), shape: [rows, columns]))
        }
        let norm = NormParameters(weight: vector(width), bias: vector(width), epsilon: 1e-5)
        let shape = AttentionShape(width: width, heads: 4)
        let queryKeyValue = try backend.prepare(
            QueryKeyValueParameters(
                shape: shape, norm: norm, weight: matrix(3 * width, width), bias: [vector(3 * width)]))
        let output = LinearParameters(weight: matrix(width, width), bias: [vector(width)])
        let out = try backend.prepare(output)
        let expand = try backend.prepare(
            LinearParameters(weight: matrix(hidden, width), norm: norm, activation: .quickGELU))
        let contract = try backend.prepare(LinearParameters(weight: matrix(width, hidden)))
        let pooled = try backend.prepare(
            PooledAttentionParameters(
                shape: shape, query: .row, norm: norm, queryWeight: matrix(width, width),
                keyWeight: matrix(width, width), valueWeight: matrix(width, width), queryBias: vector(width),
                keyBias: vector(width), valueBias: vector(width), output: output))
        let lengths = [50, 1, 130, 17, 77]
        let sequences = Sequences(lengths: lengths)
        try backend.begin()
        let x = try backend.upload(
            draw(sequences.rows * width, 1), rows: sequences.rows, columns: width)
        let projected = try backend.queryKeyValue(x, queryKeyValue)
        try backend.linear(backend.attention(projected, sequences, mask: .causal), out, addingTo: x)
        try backend.linear(backend.linear(x, expand), contract, addingTo: x)
        let last = sequences.segments.map { $0.queries.upperBound - 1 }
        let result = try backend.pooledAttention(x, sequences, rows: last, pooled)
        return try backend.wait(backend.submit(result))
    }

    @Test("what the processor cannot do is refused in one sentence") func refusals() throws {
        let refusal = #expect(throws: BackendError.self) {
            _ = try CPUBackend(options: CPUOptions(precision: .fp16))
        }
        #expect(refusal?.code == .unsupported)
        #expect(refusal?.description.contains("fp16") == true)
        let backend = try CPUBackend()
        let error = #expect(throws: BackendError.self) { try backend.wait(Ticket(number: 7)) }
        #expect(error?.code == .execution)
    }
}
