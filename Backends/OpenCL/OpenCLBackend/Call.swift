// One kernel call: arguments bound by type and counted, sizes checked, then enqueued.

import CLIPCompute
import COpenCL

/// A kernel of a built program.
final class Kernel {
    let handle: cl_kernel
    let name: String
    let argumentCount: Int
    private let cl: COpenCLFunctions

    init(_ cl: COpenCLFunctions, _ program: cl_program, _ name: String) throws(BackendError) {
        var status: cl_int = 0
        guard let handle = cl.clCreateKernel(program, name, &status) else {
            try check(status, "finding the kernel '\(name)'")
            throw BackendError(.kernel, "OpenCL: there is no kernel '\(name)'")
        }
        var count: cl_uint = 0
        try check(
            cl.clGetKernelInfo(
                handle, cl_kernel_info(CL_KERNEL_NUM_ARGS), MemoryLayout<cl_uint>.size, &count, nil),
            "counting the arguments of '\(name)'")
        self.cl = cl
        self.handle = handle
        self.name = name
        argumentCount = Int(count)
    }

    deinit { _ = cl.clReleaseKernel(handle) }
}

/// Binds arguments in the kernel's order. A wrong number of them is an error before anything runs; so is a status.
struct Call {
    private let cl: COpenCLFunctions
    private let kernel: Kernel
    var name: String { kernel.name }
    private var bound: cl_uint = 0
    private var failure: cl_int = CL_SUCCESS

    init(_ cl: COpenCLFunctions, _ kernel: Kernel) {
        self.cl = cl
        self.kernel = kernel
    }

    private mutating func bind<T: BitwiseCopyable>(_ value: T) {
        withUnsafePointer(to: value) { pointer in
            let status = cl.clSetKernelArg(kernel.handle, bound, MemoryLayout<T>.size, pointer)
            if failure == CL_SUCCESS { failure = status }
        }
        bound += 1
    }

    mutating func uint(_ value: Int) { bind(cl_uint(truncatingIfNeeded: value)) }
    mutating func ulong(_ value: Int) { bind(cl_ulong(truncatingIfNeeded: value)) }
    mutating func float(_ value: Float) { bind(value) }
    mutating func float4(_ x: Float, _ y: Float, _ z: Float, _ w: Float) { bind(SIMD4<Float>(x, y, z, w)) }
    mutating func buffer(_ buffer: Buffer) { bind(Optional(buffer.handle)) }

    /// Local memory of so many bytes.
    mutating func local(_ bytes: Int) {
        let status = cl.clSetKernelArg(kernel.handle, bound, max(bytes, 4), nil)
        if failure == CL_SUCCESS { failure = status }
        bound += 1
    }

    /// INPUT and OUTPUT of prelude.cl.
    mutating func matrix(_ matrix: OpenCLMatrix) {
        buffer(matrix.region.buffer)
        ulong(matrix.region.offset / matrix.elementSize)
        uint(matrix.pitch)
    }

    /// The buffer and the element at which the region begins; INTEGERS of prelude.cl with four bytes to an element.
    mutating func region(_ region: Region, elementSize: Int = 4) {
        buffer(region.buffer)
        ulong(region.offset / elementSize)
    }

    /// Runs `groups` work-groups of `items` by `itemRows` work-items. The caller releases the event.
    func enqueue(
        on queue: cl_command_queue, groups: (Int, Int, Int), items: Int, itemRows: Int = 1,
        event: UnsafeMutablePointer<cl_event?>? = nil
    ) throws(BackendError) {
        let name = kernel.name
        try check(failure, "binding the arguments of '\(name)'")
        guard Int(bound) == kernel.argumentCount else {
            throw BackendError(
                .kernel, "OpenCL: '\(name)' takes \(kernel.argumentCount) arguments and was given \(bound)")
        }
        if groups.0 == 0 || groups.1 == 0 || groups.2 == 0 { return }
        guard groups.0 * items <= Int(UInt32.max), groups.1 * itemRows <= Int(UInt32.max), groups.2 <= Int(UInt32.max)
        else {
            throw BackendError(
                .unsupported, "OpenCL: '\(name)' over \(groups) groups is too large; use smaller batches")
        }
        let global = [groups.0 * items, groups.1 * itemRows, groups.2]
        let local = [items, itemRows, 1]
        try check(
            cl.clEnqueueNDRangeKernel(queue, kernel.handle, 3, nil, global, local, 0, nil, event),
            "running '\(name)' over \(global) work-items")
    }
}
