// The CPU backend under the conformance suite: every instruction set that this machine has, both ways of multiplying
// matrices, one thread and several.

import BackendTesting
import CLIPCompute
import CPUBackend
import Testing

@Suite struct CPUConformanceTests {
    struct Way: Sendable, CustomTestStringConvertible {
        var set: InstructionSet
        var product: MatrixProduct
        var threads: Int

        var options: CPUOptions {
            CPUOptions(threads: threads, matrixProduct: product, instructionSet: set)
        }
        var testDescription: String { "\(set.name), products \(product.rawValue), threads \(threads)" }
    }

    static let ways: [Way] = InstructionSet.allCases.filter { $0 <= .best }.flatMap { set in
        var ways = [
            Way(set: set, product: .own, threads: 1), Way(set: set, product: .own, threads: 3),
        ]
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
        for result in Conformance.run(Conformance.full, on: backend) {
            #expect(result.passed, "\(way.testDescription): \(result)")
        }
    }
}
