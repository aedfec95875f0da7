// Kernel source into programs: found, built or read from the cache, kept for the backend's life.

import CLIPCompute
import CLIPKernels
import COpenCL
import Dispatch

/// A built program and its kernels.
final class Program {
    private let cl: COpenCLFunctions
    private let handle: cl_program
    private var kernels: [String: Kernel] = [:]

    init(_ cl: COpenCLFunctions, _ handle: cl_program) {
        self.cl = cl
        self.handle = handle
    }

    deinit { _ = cl.clReleaseProgram(handle) }

    func kernel(_ name: String) throws(BackendError) -> Kernel {
        if let kernel = kernels[name] { return kernel }
        let kernel = try Kernel(cl, handle, name)
        kernels[name] = kernel
        return kernel
    }
}

/// Builds programs for one device.
final class Programs {
    private let cl: COpenCLFunctions
    private let context: cl_context
    private let device: cl_device_id
    /// What a binary depends on besides source and options.
    private let deviceKey: String
    private let cache: ProgramCache?
    private let kernelFolder: String?
    private let commonOptions: String
    private var built: [String: Result<Program, BackendError>] = [:]
    /// Programs built from source, and read from the cache.
    private(set) var compiledCount = 0
    private(set) var cachedCount = 0

    init(
        _ cl: COpenCLFunctions, _ context: cl_context, _ device: cl_device_id, deviceKey: String, cache: ProgramCache?,
        kernelFolder: String?, commonOptions: String
    ) {
        self.cl = cl
        self.context = context
        self.device = device
        self.deviceKey = deviceKey
        self.cache = cache
        self.kernelFolder = kernelFolder
        self.commonOptions = commonOptions
    }

    /// A program of files, one after the other behind the prelude. `knobs` become -D options, behind which stand `compilerOptions`. With
    /// `splices`, the instructions that it carries as comments are put into force; `resident`: see `PTXSplice`.
    struct Request {
        let files: [String]
        let knobs: [(String, Int)]
        var compilerOptions = ""
        var splices = false
        var resident = 1
    }

    func program(_ files: [String], _ knobs: [(String, Int)] = []) throws(BackendError) -> Program {
        try program(Request(files: files, knobs: knobs))
    }

    func program(_ request: Request) throws(BackendError) -> Program {
        let key = key(request)
        if let made = built[key] { return try made.get() }
        let made = take(make(request))
        if Self.isFinal(made) { built[key] = made }
        return try made.get()
    }

    /// Builds what is not built yet, side by side: compilers of drivers use one thread for a program. What fails does so when it is asked for.
    func prebuild(_ requests: [Request]) {
        let missing = requests.filter { built[key($0)] == nil }
        guard missing.count > 1 else { return }
        var made = [Made?](repeating: nil, count: missing.count)
        made.withUnsafeMutableBufferPointer { buffer in
            // Each thread writes a place of its own and reads what does not change.
            nonisolated(unsafe) let (places, programs) = (buffer, self)
            DispatchQueue.concurrentPerform(iterations: missing.count) { places[$0] = programs.make(missing[$0]) }
        }
        for (request, made) in zip(missing, made) {
            guard let made = made.map(take), Self.isFinal(made) else { continue }
            built[key(request)] = made
        }
    }

    /// Whether the next attempt would end alike: a compiler that ran out of memory may have it then.
    private static func isFinal(_ made: Result<Program, BackendError>) -> Bool {
        if case .failure(let error) = made { error.code == .kernel } else { true }
    }

    /// Where a compiler failed for want of what it may have the next time.
    private static func checkTransient(_ status: cl_int, _ name: String) throws(BackendError) {
        if [CL_OUT_OF_HOST_MEMORY, CL_OUT_OF_RESOURCES, CL_DEVICE_NOT_AVAILABLE].contains(status) {
            try check(status, "building Kernels/OpenCL/\(name).cl")
        }
    }

    private func options(_ request: Request) -> String {
        ([commonOptions] + request.knobs.map { "-D\($0.0)=\($0.1)" }).joined(separator: " ") + request.compilerOptions
    }

    private func key(_ request: Request) -> String { request.files.joined(separator: "+") + " " + options(request) }

    /// What the host adds to the kernels' text: how weights are packed, programs spliced and kernels called. Another number
    /// where that changes, so that what was found out or kept before does not count.
    static let hostForm = "host 2"

    /// A program on its way from a thread of its own, or why there is none.
    private struct Made {
        let program: Result<cl_program, BackendError>
        /// Compiled or read from the cache; neither where it failed before.
        var origin: Origin?
        enum Origin { case compiled, cached }
    }

    private func take(_ made: Made) -> Result<Program, BackendError> {
        switch made.origin {
        case .compiled: compiledCount += 1
        case .cached: cachedCount += 1
        case nil: break
        }
        return made.program.map { Program(cl, $0) }
    }

    private func make(_ request: Request) -> Made {
        var origin: Made.Origin?
        let program = Result { () throws(BackendError) in
            try build(
                source(request.files), options(request), name: request.files[request.files.count - 1],
                splices: request.splices, resident: request.resident, &origin)
        }
        return Made(program: program, origin: origin)
    }

    /// The source of a program of the given files.
    func source(_ files: [String]) throws(BackendError) -> String { try Self.source(files, folder: kernelFolder) }

    /// The files' text behind the prelude's, each with its name.
    static func source(_ files: [String], folder: String?) throws(BackendError) -> String {
        var source = ""
        for file in ["prelude"] + files {
            source += "#line 1 \"Kernels/OpenCL/\(file).cl\"\n" + (try text(of: file, folder)) + "\n"
        }
        return source
    }

    private static func text(of file: String, _ folder: String?) throws(BackendError) -> String {
        if let folder {
            guard let bytes = readFile("\(folder)/\(file).cl") else {
                throw BackendError(.kernel, "cannot read the kernel file '\(folder)/\(file).cl'")
            }
            return String(decoding: bytes, as: UTF8.self)
        }
        guard let source = clip_opencl_kernel(file) else {
            throw BackendError(.kernel, "there is no kernel file '\(file).cl'")
        }
        return String(
            decoding: UnsafeBufferPointer(start: source.pointee.text, count: source.pointee.length), as: UTF8.self)
    }

    private func build(
        _ source: String, _ options: String, name: String, splices: Bool, resident: Int, _ origin: inout Made.Origin?
    ) throws(BackendError) -> cl_program {
        let key = ContentKey(
            [deviceKey, options, source, Self.hostForm] + (resident > 1 ? ["resident \(resident)"] : []))
        if let binary = cache?.read(key), let program = try? load(binary, options, name: name) {
            origin = .cached
            return program
        }
        var status: cl_int = 0
        var bytes = Array(source.utf8CString)
        let created: cl_program? = bytes.withUnsafeMutableBufferPointer { buffer in
            var start = UnsafePointer(buffer.baseAddress)
            var length = buffer.count - 1
            return cl.clCreateProgramWithSource(context, 1, &start, &length, &status)
        }
        guard let program = created else {
            try check(status, "handing over the source of '\(name)'")
            throw BackendError(.kernel, "OpenCL: no program '\(name)'")
        }
        var devices: cl_device_id? = device
        status = cl.clBuildProgram(program, 1, &devices, options, nil, nil)
        guard status == CL_SUCCESS else {
            let log = buildLog(program)
            _ = cl.clReleaseProgram(program)
            try Self.checkTransient(status, name)
            throw BackendError(
                .kernel,
                "OpenCL: Kernels/OpenCL/\(name).cl does not build (\(String(cString: copencl_status_name(status))),"
                    + " options '\(options)'): \(log)")
        }
        origin = .compiled
        guard splices else {
            if let cache, let binary = binary(of: program) { cache.write(key, binary) }
            return program
        }
        defer { _ = cl.clReleaseProgram(program) }
        guard var text = binary(of: program) else {
            throw BackendError(.kernel, "OpenCL: the driver does not hand out the binary of '\(name)'")
        }
        // With the zero at its end or without, as the driver gave it.
        let end = text.last == 0 ? [UInt8(0)] : []
        while text.last == 0 { text.removeLast() }
        let binary: [UInt8]
        do throws(PTXSplice.Failure) {
            binary = Array(try PTXSplice.spliced(String(decoding: text, as: UTF8.self), resident: resident).utf8) + end
        } catch {
            throw BackendError(.kernel, "OpenCL: '\(name)' cannot be completed: \(error)")
        }
        let complete = try load(binary, options, name: name)
        cache?.write(key, binary)
        return complete
    }

    /// A program from a binary.
    private func load(_ binary: [UInt8], _ options: String, name: String) throws(BackendError) -> cl_program {
        var devices: cl_device_id? = device
        var length = binary.count
        var binaryStatus: cl_int = 0
        var status: cl_int = 0
        let program = binary.withUnsafeBufferPointer { buffer in
            var start = buffer.baseAddress
            return cl.clCreateProgramWithBinary(context, 1, &devices, &length, &start, &binaryStatus, &status)
        }
        guard let program else {
            try check(status, "loading the binary of '\(name)'")
            throw BackendError(.kernel, "OpenCL: no program from the binary of '\(name)'")
        }
        if status == CL_SUCCESS && binaryStatus == CL_SUCCESS {
            status = cl.clBuildProgram(program, 1, &devices, options, nil, nil)
            if status == CL_SUCCESS { return program }
        }
        let log = buildLog(program)
        _ = cl.clReleaseProgram(program)
        try Self.checkTransient(status, name)
        throw BackendError(
            .kernel,
            "OpenCL: the driver does not take the binary of Kernels/OpenCL/\(name).cl"
                + " (\(String(cString: copencl_status_name(status)))): \(log)")
    }

    private func binary(of program: cl_program) -> [UInt8]? {
        var size = 0
        let sizes = cl_program_info(CL_PROGRAM_BINARY_SIZES)
        guard cl.clGetProgramInfo(program, sizes, MemoryLayout<Int>.size, &size, nil) == CL_SUCCESS, size > 0 else {
            return nil
        }
        var binary = [UInt8](repeating: 0, count: size)
        let status = binary.withUnsafeMutableBufferPointer { buffer in
            var start = buffer.baseAddress
            return cl.clGetProgramInfo(
                program, cl_program_info(CL_PROGRAM_BINARIES), MemoryLayout.size(ofValue: start), &start, nil)
        }
        return status == CL_SUCCESS ? binary : nil
    }

    private func buildLog(_ program: cl_program) -> String {
        var size = 0
        let what = cl_program_build_info(CL_PROGRAM_BUILD_LOG)
        guard cl.clGetProgramBuildInfo(program, device, what, 0, nil, &size) == CL_SUCCESS, size > 1 else {
            return "the driver gives no log"
        }
        var log = [UInt8](repeating: 0, count: size)
        guard cl.clGetProgramBuildInfo(program, device, what, size, &log, nil) == CL_SUCCESS else {
            return "the driver gives no log"
        }
        return String(decoding: log.prefix { $0 != 0 }.prefix(4000), as: UTF8.self)
    }
}
