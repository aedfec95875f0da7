// The conformance suite can fail: backends that are wrong in one way each are caught by it, by the cases that name
// what is wrong; and honest backends of every precision pass.

import BackendTesting
import CLIPCompute
import Testing

@Suite struct ConformanceSuiteTests {
    @Test("every case has a name of its own") func names() {
        let names = Conformance.full.map(\.name)
        #expect(Set(names).count == names.count)
        #expect(Conformance.quick.count > 50)
    }

    @Test("an honest backend passes", arguments: Precision.allCases) func honest(precision: Precision) {
        for result in Conformance.run(Conformance.full, on: Mutant(.none, precision: precision)) {
            #expect(result.passed, "\(result)")
        }
    }

    @Test("a fault is caught by the quick subset, and by the cases it concerns alone", arguments: Fault.allCases)
    func mutants(fault: Fault) {
        if fault == .none { return }
        let mutant = Mutant(fault, precision: fault == .quantizesBeforeGain ? .int8 : .fp32)
        let failures = Conformance.run(Conformance.quick, on: mutant).filter { !$0.passed }
        for operation in fault.caughtBy {
            #expect(failures.contains { $0.name.hasPrefix(operation + " ") }, "\(operation) cases do not notice")
        }
        for failure in failures {
            #expect(
                (fault.caughtBy + ["chain", "lanes"]).contains { failure.name.hasPrefix($0 + " ") },
                "not concerned: \(failure)")
        }
    }
}
