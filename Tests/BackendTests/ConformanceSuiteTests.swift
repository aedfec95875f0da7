// The conformance suite can fail: backends that are wrong in one way each are caught by it, by the cases that name
// what is wrong.

import BackendTesting
import CLIPCompute
import Testing

@Suite struct ConformanceSuiteTests {
    @Test("every case has a name of its own") func names() {
        let names = Conformance.full.map(\.name)
        #expect(Set(names).count == names.count)
    }

    @Test("the reference passes its own suite") func reference() {
        for result in Conformance.run(Conformance.full, on: ReferenceBackend()) {
            #expect(result.passed, "\(result)")
        }
    }

    @Test("quick subset") func quick() {
        for result in Conformance.run(Conformance.quick, on: ReferenceBackend()) {
            #expect(result.passed, "\(result)")
        }
    }
}
