// Device memory: buffers, and the arena of one lane with its free list.

import CLIPCompute
import COpenCL

/// A buffer of the device.
final class Buffer {
    let handle: cl_mem
    let byteCount: Int
    private let cl: COpenCLFunctions

    init(
        _ cl: COpenCLFunctions, _ context: cl_context, _ flags: Int32, _ byteCount: Int,
        copying source: UnsafeRawPointer? = nil, for what: String
    ) throws(BackendError) {
        var status: cl_int = 0
        let flags = cl_mem_flags(flags | (source == nil ? 0 : CL_MEM_COPY_HOST_PTR))
        let created = cl.clCreateBuffer(context, flags, byteCount, UnsafeMutableRawPointer(mutating: source), &status)
        guard let handle = created else {
            try check(status, "allocating \(byteCount) bytes for \(what)")
            throw BackendError(.outOfMemory, "OpenCL: no memory for \(what)")
        }
        self.cl = cl
        self.handle = handle
        self.byteCount = byteCount
    }

    deinit { _ = cl.clReleaseMemObject(handle) }
}

/// A piece of a lane's arena, given back when the last reference goes. Since a lane's queue runs in order, whatever takes
/// the piece next runs after whatever used it.
final class Region {
    let buffer: Buffer
    /// In bytes, a multiple of `Arena.alignment`.
    let offset: Int
    let byteCount: Int
    private let arena: Arena
    private let chunk: Int
    /// What was taken, guards included.
    private let taken: Range<Int>

    init(arena: Arena, chunk: Int, buffer: Buffer, taken: Range<Int>, offset: Int, byteCount: Int) {
        self.arena = arena
        self.chunk = chunk
        self.buffer = buffer
        self.taken = taken
        self.offset = offset
        self.byteCount = byteCount
    }

    deinit { arena.give(back: taken, chunk: chunk) }
}

/// The memory of one lane: a few large buffers, cut first-fit. Kernels are given a buffer and an offset, never a
/// sub-buffer.
final class Arena {
    static let alignment = 256
    private struct Chunk {
        let buffer: Buffer
        /// In order, never touching one another.
        var free: [Range<Int>]
    }
    private var chunks: [Chunk] = []
    private let cl: COpenCLFunctions
    private let context: cl_context
    private let largestAllocation: Int

    /// While set, pieces given back are kept apart until `releaseRetained`: their guards are still to be looked at.
    var retainsReturned = false
    private var retained: [(chunk: Int, range: Range<Int>)] = []

    init(_ cl: COpenCLFunctions, _ context: cl_context, largestAllocation: Int) {
        self.cl = cl
        self.context = context
        self.largestAllocation = largestAllocation
    }

    /// Bytes held on the device.
    var byteCount: Int { chunks.reduce(0) { $0 + $1.buffer.byteCount } }

    /// A piece of at least `byteCount` bytes with `guardBytes` before and after it.
    func take(_ byteCount: Int, guardBytes: Int = 0) throws(BackendError) -> Region {
        let rounded = (max(byteCount, 1) + Self.alignment - 1) / Self.alignment * Self.alignment
        let wanted = rounded + 2 * guardBytes
        for index in chunks.indices {
            guard let at = chunks[index].free.firstIndex(where: { $0.count >= wanted }) else { continue }
            return region(chunk: index, free: at, wanted, guardBytes, byteCount)
        }
        guard wanted <= largestAllocation else {
            throw BackendError(
                .outOfMemory,
                "OpenCL: a matrix of \(byteCount >> 20) MiB is needed and the device allows"
                    + " \(largestAllocation >> 20) MiB in one piece; use smaller batches")
        }
        // Each chunk as large as all before it, so that their number stays small.
        let size = max(wanted, min(max(self.byteCount, 16 << 20), largestAllocation, 1 << 30))
        let buffer = try Buffer(cl, context, CL_MEM_READ_WRITE, size, for: "activations")
        chunks.append(Chunk(buffer: buffer, free: [0..<size]))
        return region(chunk: chunks.count - 1, free: 0, wanted, guardBytes, byteCount)
    }

    private func region(chunk index: Int, free at: Int, _ wanted: Int, _ guardBytes: Int, _ byteCount: Int) -> Region {
        let range = chunks[index].free[at]
        let taken = range.lowerBound..<(range.lowerBound + wanted)
        if taken.upperBound == range.upperBound {
            chunks[index].free.remove(at: at)
        } else {
            chunks[index].free[at] = taken.upperBound..<range.upperBound
        }
        return Region(
            arena: self, chunk: index, buffer: chunks[index].buffer, taken: taken,
            offset: taken.lowerBound + guardBytes, byteCount: byteCount)
    }

    fileprivate func give(back range: Range<Int>, chunk: Int) {
        if retainsReturned {
            retained.append((chunk, range))
            return
        }
        var free = chunks[chunk].free
        let at = free.firstIndex { $0.lowerBound > range.lowerBound } ?? free.count
        var merged = range
        if at < free.count, free[at].lowerBound == merged.upperBound {
            merged = merged.lowerBound..<free[at].upperBound
            free.remove(at: at)
        }
        if at > 0, free[at - 1].upperBound == merged.lowerBound {
            free[at - 1] = free[at - 1].lowerBound..<merged.upperBound
        } else {
            free.insert(merged, at: at)
        }
        chunks[chunk].free = free
    }

    func releaseRetained() {
        let keeps = retainsReturned
        retainsReturned = false
        for (chunk, range) in retained { give(back: range, chunk: chunk) }
        retained = []
        retainsReturned = keeps
    }
}

/// An in-order queue whose events know their times, released after the last thing that uses it.
final class Queue {
    let handle: cl_command_queue
    private let cl: COpenCLFunctions

    init(_ cl: COpenCLFunctions, _ context: cl_context, _ device: cl_device_id) throws(BackendError) {
        var status: cl_int = 0
        guard
            let handle = cl.clCreateCommandQueue(
                context, device, cl_command_queue_properties(CL_QUEUE_PROFILING_ENABLE), &status)
        else {
            try check(status, "creating a queue")
            throw BackendError(.unavailable, "OpenCL: no queue")
        }
        self.cl = cl
        self.handle = handle
    }

    deinit {
        _ = cl.clFinish(handle)
        _ = cl.clReleaseCommandQueue(handle)
    }
}

/// Pinned host memory of one lane, mapped for its whole life: what is sent waits here until the device has taken it, and
/// what is read back arrives here.
final class Staging {
    private struct Chunk {
        let buffer: Buffer
        let bytes: UnsafeMutableRawPointer
        var used: Int
    }
    private var chunks: [Chunk] = []
    private let cl: COpenCLFunctions
    private let context: cl_context
    private let queue: Queue

    init(_ cl: COpenCLFunctions, _ context: cl_context, _ queue: Queue) {
        self.cl = cl
        self.context = context
        self.queue = queue
    }

    deinit {
        for chunk in chunks {
            _ = cl.clEnqueueUnmapMemObject(queue.handle, chunk.buffer.handle, chunk.bytes, 0, nil, nil)
        }
        _ = cl.clFinish(queue.handle)
    }

    /// Room for `byteCount` bytes, valid until `reset`.
    func take(_ byteCount: Int) throws(BackendError) -> UnsafeMutableRawPointer {
        let rounded = (byteCount + 255) / 256 * 256
        for index in chunks.indices where chunks[index].buffer.byteCount - chunks[index].used >= rounded {
            defer { chunks[index].used += rounded }
            return chunks[index].bytes + chunks[index].used
        }
        let size = max(rounded, 4 << 20)
        let buffer = try Buffer(cl, context, CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR, size, for: "staging")
        var status: cl_int = 0
        let flags = cl_map_flags(CL_MAP_READ | CL_MAP_WRITE)
        let mapped = cl.clEnqueueMapBuffer(
            queue.handle, buffer.handle, cl_bool(CL_TRUE), flags, 0, size, 0, nil, nil, &status)
        guard let bytes = mapped else {
            try check(status, "mapping \(size) bytes of staging")
            throw BackendError(.outOfMemory, "OpenCL: no memory for staging")
        }
        chunks.append(Chunk(buffer: buffer, bytes: bytes, used: rounded))
        return bytes
    }

    func reset() {
        for index in chunks.indices { chunks[index].used = 0 }
    }
}
