// Passes beside each other, one a thread: operations are kept as they are asked for and run by a lane's thread, in order.
// No thread then waits for another between operations, which pays where there is work for all of them.

import CCPU
import CLIPCompute

/// One thread, with what its passes need.
final class Lane {
    let arena: Arena
    private let context: OpaquePointer
    private let thread: OpaquePointer
    /// The number of the last work handed over.
    private(set) var last: UInt = 0

    /// `share`: of how many lanes this is one.
    init(_ set: InstructionSet, share: Int) throws(BackendError) {
        arena = try Arena(share: share)
        let context = ccpu_create(1, set.code, false)
        guard let context, let thread = ccpu_lane_create() else {
            ccpu_destroy(context)
            throw BackendError(
                .outOfMemory, "The CPU backend could not start a thread more; ask for fewer with --threads.")
        }
        self.context = context
        self.thread = thread
    }

    deinit {
        ccpu_lane_destroy(thread)
        ccpu_destroy(context)
    }

    func add(_ work: LaneWork) {
        work.context = context
        last = ccpu_lane_add(
            thread,
            { argument in
                guard let argument else { return }
                Unmanaged<LaneWork>.fromOpaque(argument).takeRetainedValue().run()
            },
            Unmanaged.passRetained(work).toOpaque())
        work.number = last
    }

    /// Waits until work, or all of it, has run.
    func wait(for number: UInt? = nil) { ccpu_lane_wait(thread, number ?? last) }
}

/// Operations of a pass. They hold the weights that they use, and the addresses of rows: a matrix that is let go returns its
/// memory at once, for later operations of the same lane.
final class LaneWork {
    /// Set when it is handed over.
    var context: OpaquePointer?
    var number: UInt = 0
    private var operations: [(OpaquePointer) -> Void] = []
    /// The pass's rows, once it has run.
    private(set) var result: [Float] = []
    private(set) var ranOutOfMemory = false
    private(set) var began = ContinuousClock.now
    private(set) var ended = ContinuousClock.now

    func add(_ operation: @escaping (OpaquePointer) -> Void) { operations.append(operation) }

    /// To be called once, at the end: the rows of a matrix are the pass's.
    func finish(with matrix: CPUMatrix) {
        let rows = matrix.contents
        operations.append { [unowned self] _ in result = rows.floats() }
    }

    fileprivate func run() {
        guard let context else { return }
        began = .now
        for operation in operations { operation(context) }
        operations = []
        ranOutOfMemory = ccpu_take_memory_failure(context)
        ended = .now
    }
}
