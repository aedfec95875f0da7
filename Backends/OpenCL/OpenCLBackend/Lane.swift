// A lane: a queue, its arena and its staging; and what is on its way back from it.

import CLIPCompute
import COpenCL

/// A logical matrix in a lane's arena: row after row, `pitch` elements from one to the next.
package final class OpenCLMatrix {
    package let rows: Int
    package let columns: Int
    let pitch: Int
    let elementSize: Int
    let region: Region

    init(rows: Int, columns: Int, pitch: Int, elementSize: Int, region: Region) {
        self.rows = rows
        self.columns = columns
        self.pitch = pitch
        self.elementSize = elementSize
        self.region = region
    }
}

final class Lane {
    /// A result on its way into staging.
    struct Pending {
        let ticket: Ticket
        /// Of reading back: it begins when the last operation has ended.
        let event: cl_event
        let bytes: UnsafeMutableRawPointer
        let rows: Int
        let columns: Int
        let pitch: Int
        let elementSize: Int
    }

    /// A guard band: bytes that no kernel may write.
    struct Guard {
        let buffer: Buffer
        let offset: Int
    }

    private let commands: Queue
    var queue: cl_command_queue { commands.handle }
    let arena: Arena
    let staging: Staging
    var pending: Pending?
    /// The first operation of the pass, and operations so far.
    private var first: cl_event?
    private var operationCount = 0
    /// When the pass that was collected last computed, in nanoseconds of the device's clock.
    private(set) var computed: Range<UInt64>?
    /// Commands were enqueued that no ticket covers: a pass that ended with an error.
    var isOpen = false
    var guards: [Guard] = []
    /// The segments uploaded last, since every layer asks for the same ones.
    var segments: (values: [Sequences.Segment], region: Region)?
    private let cl: COpenCLFunctions

    init(
        _ cl: COpenCLFunctions, _ context: cl_context, _ device: cl_device_id, largestAllocation: Int
    ) throws(BackendError) {
        commands = try Queue(cl, context, device)
        self.cl = cl
        arena = Arena(cl, context, largestAllocation: largestAllocation)
        staging = Staging(cl, context, commands)
    }

    deinit {
        if let pending { _ = cl.clReleaseEvent(pending.event) }
        if let first { _ = cl.clReleaseEvent(first) }
    }

    /// Forgets the pass before.
    func begin() {
        if let first { _ = cl.clReleaseEvent(first) }
        first = nil
        operationCount = 0
        staging.reset()
        segments = nil
        guards = []
    }

    /// Enqueues a kernel whose arguments are bound.
    func enqueue(_ call: Call, groups: (Int, Int, Int), items: Int) throws(BackendError) {
        if first == nil {
            try call.enqueue(on: queue, groups: groups, items: items, event: &first)
        } else {
            try call.enqueue(on: queue, groups: groups, items: items)
        }
        operationCount += 1
        // Drivers gather commands until they are told to start: the device is not to wait for a whole pass.
        if operationCount % 8 == 0 { try check(cl.clFlush(queue), "starting operations") }
    }

    func finish() throws(BackendError) {
        try check(cl.clFinish(queue), "waiting for the device")
    }

    /// Waits for the pending result, if any, and takes it out of staging.
    func collect() throws(BackendError) -> [Float] {
        guard let result = pending else { return [] }
        pending = nil
        defer { _ = cl.clReleaseEvent(result.event) }
        var event: cl_event? = result.event
        try check(cl.clWaitForEvents(1, &event), "waiting for a result")
        let began = first.flatMap { time(CL_PROFILING_COMMAND_START, of: $0) }
        let ended = time(CL_PROFILING_COMMAND_START, of: result.event)
        computed = began.flatMap { began in ended.map { began..<max(began, $0) } }
        return [Float](unsafeUninitializedCapacity: result.rows * result.columns) { values, initialized in
            for row in 0..<result.rows {
                let start = result.bytes + row * result.pitch * result.elementSize
                for column in 0..<result.columns {
                    values[row * result.columns + column] =
                        result.elementSize == 4
                        ? start.load(fromByteOffset: column * 4, as: Float.self)
                        : Float(Float16(bitPattern: start.load(fromByteOffset: column * 2, as: UInt16.self)))
                }
            }
            initialized = result.rows * result.columns
        }
    }

    /// When a command that has ended was begun or ended; none where the driver does not say.
    private func time(_ what: Int32, of event: cl_event) -> UInt64? {
        var nanoseconds: cl_ulong = 0
        let size = MemoryLayout<cl_ulong>.size
        return cl.clGetEventProfilingInfo(event, cl_profiling_info(what), size, &nanoseconds, nil) == CL_SUCCESS
            ? nanoseconds : nil
    }
}
