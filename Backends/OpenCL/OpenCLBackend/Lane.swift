// A lane: a queue, its arena and its staging; and what is on its way back from it.
//
// Each lane has an in-order queue of its own for what it sends, computes and reads back. The copies of one lane so run
// beside the operations of the others, as with a copy queue beside a compute queue, and the last work-groups of a lane's
// operation leave no unit idle that another lane has work for. A lane's memory is used anew within a pass at once, which is
// safe because its queue keeps the order: a copy queue would need an event for every copy.

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
    /// The first thing sent in the pass, its first operation, and operations so far.
    private var firstSent: cl_event?
    private var first: cl_event?
    private var operationCount = 0
    /// The pass that was collected last.
    private(set) var times = PassTimes()
    /// Commands were enqueued that no ticket covers: a pass that ended with an error.
    var isOpen = false
    var guards: [Guard] = []
    /// The segments uploaded last, since every layer asks for the same ones.
    var segments: (values: [Sequences.Segment], region: Region)?
    private let trace: Trace?
    /// Where one is kept: the pass's kernels.
    private var traced: [(name: String, event: cl_event)] = []
    private let cl: COpenCLFunctions

    init(
        _ cl: COpenCLFunctions, _ context: cl_context, _ device: cl_device_id, largestAllocation: Int, _ trace: Trace?
    ) throws(BackendError) {
        self.trace = trace
        commands = try Queue(cl, context, device)
        self.cl = cl
        arena = Arena(cl, context, largestAllocation: largestAllocation)
        staging = Staging(cl, context, commands)
    }

    deinit {
        if let pending { _ = cl.clReleaseEvent(pending.event) }
        forgetEvents()
    }

    private func forgetEvents() {
        for event in [firstSent, first] {
            if let event { _ = cl.clReleaseEvent(event) }
        }
        firstSent = nil
        first = nil
        for (_, event) in traced { _ = cl.clReleaseEvent(event) }
        traced = []
    }

    /// Forgets the pass before.
    func begin() {
        forgetEvents()
        operationCount = 0
        staging.reset()
        segments = nil
        guards = []
    }

    /// Starts copying from staging to the region, `start` bytes behind its beginning.
    func send(
        _ bytes: UnsafeMutableRawPointer, _ byteCount: Int, to region: Region, at start: Int = 0
    ) throws(BackendError) {
        func write(_ event: UnsafeMutablePointer<cl_event?>?) -> cl_int {
            cl.clEnqueueWriteBuffer(
                queue, region.buffer.handle, cl_bool(CL_FALSE), region.offset + start, byteCount, bytes, 0, nil, event)
        }
        try check(firstSent == nil ? write(&firstSent) : write(nil), "sending \(byteCount) bytes")
        // Drivers gather commands until they are told to start.
        if byteCount >= 1 << 20 { try check(cl.clFlush(queue), "starting to send") }
    }

    /// Enqueues a kernel whose arguments are bound.
    func enqueue(_ call: Call, groups: (Int, Int, Int), items: Int, itemRows: Int) throws(BackendError) {
        if first == nil {
            try call.enqueue(on: queue, groups: groups, items: items, itemRows: itemRows, event: &first)
        } else if trace != nil {
            var event: cl_event?
            try call.enqueue(on: queue, groups: groups, items: items, itemRows: itemRows, event: &event)
            if let event { traced.append(("\(call.name) \(groups.0)x\(groups.1)x\(groups.2)", event)) }
        } else {
            try call.enqueue(on: queue, groups: groups, items: items, itemRows: itemRows)
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
        times.sent = interval(firstSent, firstSent, to: CL_PROFILING_COMMAND_END)
        times.computed = interval(first, result.event, to: CL_PROFILING_COMMAND_START)
        if let trace, let whole = times.computed, let start = interval(first, first, to: CL_PROFILING_COMMAND_END) {
            trace.add(
                traced.map { ($0.name, interval($0.event, $0.event, to: CL_PROFILING_COMMAND_END)) } + [
                    ("the first", start)
                ],
                of: whole)
        }
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

    /// From the start of one command to a point of another, both ended; none where the driver does not say.
    private func interval(_ first: cl_event?, _ last: cl_event?, to point: Int32) -> Range<UInt64>? {
        func time(_ what: Int32, of event: cl_event?) -> UInt64? {
            var nanoseconds: cl_ulong = 0
            let size = MemoryLayout<cl_ulong>.size
            guard let event, cl.clGetEventProfilingInfo(event, cl_profiling_info(what), size, &nanoseconds, nil) == 0
            else { return nil }
            return nanoseconds
        }
        guard let began = time(CL_PROFILING_COMMAND_START, of: first), let ended = time(point, of: last) else {
            return nil
        }
        return began..<max(began, ended)
    }
}

/// When a pass was on the device, in nanoseconds of its clock; none where the driver does not say.
package struct PassTimes: Sendable {
    /// The first thing sent.
    package var sent: Range<UInt64>?
    /// From the first operation's start to the last one's end.
    package var computed: Range<UInt64>?
}
