// The conformance suite can fail: backends that are wrong in one way each are caught by it, by the cases that name
// what is wrong; and honest backends of every precision pass.

import BackendTesting
import CLIPCompute
import Testing

@Suite struct ConformanceSuiteTests {
    @Test("every case has a name of its own") func names() {
        let names = Conformance.full.map(\.name)
        #expect(Set(names).count == names.count)
    }

    @Test("an honest backend passes", arguments: Precision.allCases) func honest(precision: Precision) {
        for result in Conformance.run(Conformance.full, on: Mutant(.none, precision: precision)) {
            #expect(result.passed, "\(result)")
        }
    }

    @Test(
        "a fault is caught by the quick subset, and by the cases it concerns alone",
        arguments: Fault.allCases.filter { $0 != .none })
    func mutants(fault: Fault) {
        let mutant = Mutant(fault, precision: fault == .quantizesBeforeGain ? .int8 : .fp32)
        // Of operations that the fault does not concern, the tiny cases are enough.
        let cases = Conformance.quick.filter { fault.caughtBy.contains($0.operation) || $0.size == .tiny }
        var failed: Set<String> = []
        for conformanceCase in cases {
            let result = conformanceCase.run(on: mutant)
            if result.passed { continue }
            failed.insert(conformanceCase.operation)
            #expect(
                (fault.caughtBy + ["chain", "lanes"]).contains(conformanceCase.operation), "not concerned: \(result)")
        }
        #expect(failed.isSuperset(of: fault.caughtBy), "not noticed by \(Set(fault.caughtBy).subtracting(failed))")
    }

    @Test("every operation has a tiny case") func tiny() {
        let operations = Set(Conformance.full.map(\.operation))
        #expect(operations == Set(Conformance.tiny.map(\.operation)))
        #expect(operations.count == 15)
    }
}
