// The OpenCL backend: a device, its lanes and programs. The operations are in files of their own names.

import CHalves
import CLIPCompute
import CLIPKernels
import COpenCL
import Dispatch

/// How the backend is made, for tests and for work on kernels. The defaults are right for everything else.
package struct OpenCLOptions: Sendable {
    /// The two families of matrix product and attention kernels (see Kernels/README.md).
    package enum Family: String, Sendable, CaseIterable {
        /// One work-item makes a block of results in vector registers: CPUs.
        case vector
        /// Work-groups share tiles in local memory: GPUs.
        case tiled
    }
    /// None: as the device's kind suggests.
    package var family: Family?
    /// None: three on a GPU (one pass computes, one waits on the device, one is being filled), else two.
    package var laneCount: Int?
    /// Where program binaries are kept; none for nowhere.
    package var cacheFolder: String?
    /// A folder to read kernel files from instead of those in the binary.
    package var kernelFolder: String?
    /// Whether what `clip-gpu tune` remembered for the device is used.
    package var usesTuning = true
    /// Tiles of the matrix product to try instead of the built-in ones, best first.
    package var linearTiles: [LinearTile]?
    /// Instructions to try for products of halves, best first; none: what the device has.
    package var matrixSteps: [MatrixStep]?
    /// Their tiles, instead of the built-in ones. `CLIP_GPU_TILES` names some, separated by commas: "mma 128x128x32x3 64x64".
    package var matrixTiles: [MatrixTile]?
    /// Those instructions are done in plain C: for tests on devices that lack them.
    package var emulatesMatrixSteps = false

    package init() {
        cacheFolder = ProgramCache.standardFolder
        kernelFolder = environment("CLIP_GPU_KERNELS")
        if let tiles = environment("CLIP_GPU_TILES") {
            matrixTiles = tiles.split(separator: ",").compactMap { MatrixTile(String($0)) }
        }
    }
}

/// The contract's operations on one OpenCL device, in plain OpenCL C 1.2.
package final class OpenCLBackend: Backend {
    package typealias Matrix = OpenCLMatrix

    package let device: DeviceInfo
    package let precision: Precision
    package let laneCount: Int
    /// What the device says of itself.
    package let description: OpenCLDeviceDescription
    /// Kernel variants that were passed over on this device, and why.
    package private(set) var notices: [String] = []

    let cl: COpenCLFunctions
    package let family: OpenCLOptions.Family
    /// The tile that `clip-gpu tune` found on this device, where it is in use.
    package private(set) var tunedTile: LinearTile?
    private(set) var programs: Programs
    /// What tuning depends on besides the source of the kernels; and where it is kept.
    let deviceKey: String
    let cache: ProgramCache?
    let elementSize: Int
    /// Work-items of a group of the row kernels; see prelude.cl.
    let rowLanes: Int
    /// How products are tiled; weights are laid out for it.
    package private(set) var linearTile: LinearTile
    /// Tiles to choose it from; none left once it is chosen.
    private var linearTiles: [LinearTile]
    /// They were named; else one that was found by tuning goes before them.
    private let namesTiles: Bool
    private let usesTuning: Bool
    /// The instructions that products and attention use; none for plain OpenCL C.
    package private(set) var matrixStep: MatrixStep?
    /// Its tiles that passed their self-check.
    private(set) var matrixTiles: [MatrixTile] = []
    /// Those among them whose self-check waits for their first use.
    private var uncheckedTiles: Set<MatrixTile> = []
    /// wgmma/attention.cl: not for this device, to be checked at its first use, or good.
    enum Soundness { case none, unchecked, sound }
    private(set) var wgmmaAttention = Soundness.none
    /// Work-groups of a product that may have fewer than tiles; none: as many as the device holds.
    package var mostProductGroups: Int?
    /// Those among them whose shared memory is an argument of the kernel.
    private(set) var sharesByArgument: Set<MatrixTile> = []
    let emulatesMatrixSteps: Bool
    /// Zeros for what is not there: no bias, no residual, positions outside a picture.
    private(set) var zeros: Buffer

    /// `CLIP_GPU_TRACE` is set: each kernel's time is taken.
    private let trace: Trace?
    private var context: cl_context
    private var lanes: [Lane]
    private let open: () throws(BackendError) -> (cl_context, [Lane], Programs)
    private var current = 0
    private var passIsOpen = false
    private var lastTicket: UInt64 = 0
    /// Until when the device's computing is counted, and how much of it there was; nanoseconds.
    private var counted: (until: UInt64, total: UInt64) = (0, 0)
    /// Results that had to leave their lane before they were asked for.
    private var collected: [Ticket: Result<[Float], BackendError>] = [:]

    /// Opens the device that `OpenCLDevices.all()` lists at `deviceIndex`.
    ///
    /// Without a precision, halves in memory on a GPU and floats elsewhere. Throws `unavailable` where there is no such
    /// device, `unsupported` for a precision it lacks, `kernel` where no variant of a kernel builds and computes rightly.
    package init(
        deviceIndex: Int, precision: Precision? = nil, options: OpenCLOptions = OpenCLOptions()
    ) throws(BackendError) {
        cl = try loadOpenCL()
        let handles = try OpenCLDevices.handles(cl)
        guard handles.indices.contains(deviceIndex) else {
            throw BackendError(
                .unavailable, "there is no device opencl:\(deviceIndex); there are \(handles.count), counted from 0")
        }
        let handle = handles[deviceIndex]
        description = try OpenCLDevices.describe(cl, handle, index: deviceIndex)
        device = description.info
        self.precision = precision ?? (description.kind == .cpu ? .fp32 : .fp16)
        guard device.precisions.contains(self.precision) else {
            throw BackendError(
                .unsupported,
                "the OpenCL backend computes in fp32 and fp16, not in \(self.precision.rawValue); use --precision fp32")
        }
        elementSize = self.precision == .fp32 ? 4 : 2
        let isCPU = description.kind == .cpu
        family = options.family ?? (isCPU ? .vector : .tiled)
        rowLanes = family == .vector ? 1 : min(64, description.largestWorkGroup)

        trace = environment("CLIP_GPU_TRACE") != nil ? Trace() : nil
        laneCount = max(1, options.laneCount ?? (isCPU ? 2 : 3))
        deviceKey = Self.deviceKey(description)
        cache = options.cacheFolder.map(ProgramCache.init(folder:))
        let commonOptions = Self.commonOptions(
            half: elementSize == 2, family, rowLanes: rowLanes, unrolls: !(isCPU && family == .tiled))
        open = { [cl, description, laneCount, trace] () throws(BackendError) in
            try Self.open(cl, handle, description, laneCount: laneCount, trace, options, commonOptions)
        }
        (context, lanes, programs) = try open()
        zeros = try Buffer(cl, context, CL_MEM_READ_ONLY, 1 << 16, for: "zeros")
        linearTile = LinearTile.vector
        linearTiles = options.linearTiles ?? LinearTile.candidates(family, vectorWidth: description.vectorWidth)
        usesTuning = options.usesTuning
        namesTiles = options.linearTiles != nil
        emulatesMatrixSteps = options.emulatesMatrixSteps
        try zeroFill(zeros, on: lanes[0])
        if self.precision == .fp16 {
            try chooseMatrixStep(options.matrixSteps ?? description.matrixSteps, options.matrixTiles)
        }
        // With tensor cores, plain products are for what these cannot do: built when a model has it, not at every first start.
        if matrixStep == nil { try chooseLinearTile() }
    }

    deinit {
        trace?.print()
        _ = cl.clReleaseContext(context)
    }

    private static func deviceKey(_ description: OpenCLDeviceDescription) -> String {
        [description.platform, description.name, description.driver].joined(separator: "\n")
    }

    static func commonOptions(half: Bool, _ family: OpenCLOptions.Family, rowLanes: Int, unrolls: Bool) -> String {
        "-cl-std=CL1.2 -DHALF=\(half ? 1 : 0) -DVECTOR=\(family == .vector ? 16 : 4) -DLANES=\(rowLanes)"
            + " -DUNROLL=\(unrolls ? 1 : 0)"
    }

    private static func open(
        _ cl: COpenCLFunctions, _ handle: OpenCLDevices.Handle, _ description: OpenCLDeviceDescription, laneCount: Int,
        _ trace: Trace?,
        _ options: OpenCLOptions, _ commonOptions: String
    ) throws(BackendError) -> (cl_context, [Lane], Programs) {
        var status: cl_int = 0
        var properties: [cl_context_properties] = [
            cl_context_properties(CL_CONTEXT_PLATFORM), cl_context_properties(Int(bitPattern: handle.platform)), 0,
        ]
        var devices: cl_device_id? = handle.device
        guard let context = cl.clCreateContext(&properties, 1, &devices, nil, nil, &status) else {
            try check(status, "opening \(description.identifier), \(description.name)")
            throw BackendError(.unavailable, "OpenCL: \(description.identifier) cannot be opened")
        }
        var lanes: [Lane] = []
        for _ in 0..<laneCount {
            lanes.append(
                try Lane(
                    cl, context, handle.device, largestAllocation: Int(clamping: description.largestAllocation), trace))
        }
        let programs = Programs(
            cl, context, handle.device, deviceKey: deviceKey(description),
            cache: options.cacheFolder.map(ProgramCache.init(folder:)), kernelFolder: options.kernelFolder,
            commonOptions: commonOptions)
        return (context, lanes, programs)
    }

    /// Opens the device anew: a fault of a kernel takes its context with it, and everything made there.
    private func reopen() throws(BackendError) {
        let old = context
        (context, lanes, programs) = try open()
        _ = cl.clReleaseContext(old)
        zeros = try Buffer(cl, context, CL_MEM_READ_ONLY, 1 << 16, for: "zeros")
        current = 0
        passIsOpen = false
        try zeroFill(zeros, on: lanes[0])
    }

    package func preferredRows(width: Int) -> Int {
        if description.kind == .cpu { return min(1600, max(64, (16 << 20) / max(width, 1))) }
        // Work-groups of one column of tiles on all units: what a kernel takes to begin and to end is then little of its time. All lanes
        // together take a quarter of the memory at most; a block has some ten matrices of its width.
        let memory = Int(clamping: description.memory) / 4 / (laneCount * 10 * max(width, 1) * elementSize)
        let most = max(
            64, min(memory, Int(clamping: description.largestAllocation) / (4 * max(width, 1) * elementSize)))
        let wanted = max(4096, description.multiprocessors * microBatch.tileRows)
        return microBatch.rows(width: width, within: min(wanted * 3 / 4, most)...min(wanted * 5 / 4, most))
    }

    package func preferredRows(width: Int, of rows: Int) -> Int {
        let preferred = preferredRows(width: width)
        return description.kind == .cpu
            ? min(rows, preferred) : microBatch.pass(of: rows, preferred: preferred, width: width)
    }

    private var microBatch: MicroBatch {
        MicroBatch(
            computeUnits: description.multiprocessors, tileRows: matrixTiles.first?.rows ?? linearTile.groupRows,
            tileColumns: matrixTiles.first?.columns ?? linearTile.panel)
    }

    /// Programs built from source and programs read from the cache so far.
    package var programCounts: (compiled: Int, cached: Int) { (programs.compiledCount, programs.cachedCount) }

    // MARK: Passes

    var lane: Lane { lanes[current] }

    package func begin(alone _: Bool) throws(BackendError) {
        passIsOpen = false
        current = (current + 1) % lanes.count
        let lane = lanes[current]
        if let pending = lane.pending {
            // The lane is needed and nobody has asked for its result yet: keep it.
            do throws(BackendError) {
                collected[pending.ticket] = .success(try collect(lane))
            } catch {
                collected[pending.ticket] = .failure(error)
            }
        }
        if lane.isOpen { try lane.finish() }
        lane.isOpen = true
        lane.begin()
        lane.arena.releaseRetained()
        lane.arena.retainsReturned = guardsMemory
        passIsOpen = true
    }

    package func submit(_ result: OpenCLMatrix) throws(BackendError) -> Ticket {
        let lane = self.lane
        let byteCount = result.rows * result.pitch * elementSize
        let bytes = try lane.staging.take(byteCount)
        var event: cl_event?
        if byteCount > 0 {
            try check(
                cl.clEnqueueReadBuffer(
                    lane.queue, result.region.buffer.handle, cl_bool(CL_FALSE), result.region.offset, byteCount, bytes,
                    0, nil, &event), "reading \(byteCount) bytes back")
        }
        try check(cl.clFlush(lane.queue), "starting a pass")
        lastTicket += 1
        let ticket = Ticket(number: lastTicket)
        passIsOpen = false
        guard let event else {
            // What the pass was sent may still be under way: the lane stays open until it is taken anew.
            collected[ticket] = .success([])
            return ticket
        }
        lane.isOpen = false
        lane.pending = Lane.Pending(
            ticket: ticket, event: event, bytes: bytes, rows: result.rows, columns: result.columns, pitch: result.pitch,
            elementSize: elementSize)
        return ticket
    }

    package func wait(_ ticket: Ticket) throws(BackendError) -> [Float] {
        if let result = collected.removeValue(forKey: ticket) { return try result.get() }
        guard let lane = lanes.first(where: { $0.pending?.ticket == ticket }) else {
            throw BackendError(.execution, "the ticket \(ticket.number) was waited on already, or is another backend's")
        }
        return try collect(lane)
    }

    /// When the pass that was waited for last was on the device.
    package private(set) var lastPassTimes = PassTimes()

    package var busySeconds: Double { Double(counted.total) * 1e-9 }

    private func collect(_ lane: Lane) throws(BackendError) -> [Float] {
        let rows = try lane.collect()
        lastPassTimes = lane.times
        if let computed = lane.times.computed {
            let from = max(computed.lowerBound, counted.until)
            counted.total += max(computed.upperBound, from) - from
            counted.until = max(computed.upperBound, counted.until)
        }
        return rows
    }

    // MARK: Memory

    package var guardsMemory = false {
        didSet { lane.arena.retainsReturned = guardsMemory }
    }
    private static let guardBytes = 1024
    private static let guardPattern: UInt32 = 0x7fc5_7fc5

    package func damagedGuards() throws(BackendError) -> Int {
        try lane.finish()
        var damaged = 0
        var words = [UInt32](repeating: 0, count: Self.guardBytes / 4)
        for band in lane.guards {
            try check(
                cl.clEnqueueReadBuffer(
                    lane.queue, band.buffer.handle, cl_bool(CL_TRUE), band.offset, Self.guardBytes, &words, 0, nil, nil),
                "reading a guard band")
            if words.contains(where: { $0 != Self.guardPattern }) { damaged += 1 }
        }
        return damaged
    }

    /// A piece of the current lane's arena. Guarded memory is all NaN, in floats and in halves.
    func take(_ byteCount: Int) throws(BackendError) -> Region {
        precondition(passIsOpen, "operations belong between begin and submit")
        let lane = self.lane
        guard guardsMemory else { return try lane.arena.take(byteCount) }
        let region = try lane.arena.take(byteCount, guardBytes: Self.guardBytes)
        // From one guard to the other; what rounding leaves between them belongs to the second.
        let inside = (byteCount + 3) / 4 * 4
        let after = region.offset + (max(byteCount, 1) + Arena.alignment - 1) / Arena.alignment * Arena.alignment
        var pattern = Self.guardPattern
        for (offset, length) in [
            (region.offset - Self.guardBytes, Self.guardBytes), (region.offset, inside), (after, Self.guardBytes),
        ] where length > 0 {
            try check(
                cl.clEnqueueFillBuffer(
                    lane.queue, region.buffer.handle, &pattern, 4, offset, length, 0, nil, nil), "filling with NaN")
        }
        lane.guards.append(Lane.Guard(buffer: region.buffer, offset: region.offset - Self.guardBytes))
        lane.guards.append(Lane.Guard(buffer: region.buffer, offset: after))
        return region
    }

    /// A new matrix. Rows begin at multiples of a cache line, and not at multiples of a page, where they would compete
    /// for the same cache sets.
    func matrix(rows: Int, columns: Int) throws(BackendError) -> OpenCLMatrix {
        // Rows begin at multiples of 16 bytes at least, which copies of matrix kernels need.
        let unit = columns < 16 ? 16 / elementSize : 16
        var pitch = (columns + unit - 1) / unit * unit
        if pitch * elementSize % 4096 == 0 { pitch += 64 / elementSize }
        guard rows <= Int(Int32.max), pitch <= Int(Int32.max), !rows.multipliedReportingOverflow(by: pitch).overflow
        else {
            throw BackendError(.unsupported, "a matrix of \(rows) x \(columns) is too large; use smaller batches")
        }
        return OpenCLMatrix(
            rows: rows, columns: columns, pitch: pitch, elementSize: elementSize,
            region: try take(rows * pitch * elementSize))
    }

    // MARK: From the host

    package func upload(_ values: [Float], rows: Int, columns: Int) throws(BackendError) -> OpenCLMatrix {
        precondition(values.count == rows * columns, "\(values.count) values are not \(rows) x \(columns)")
        let y = try matrix(rows: rows, columns: columns)
        let byteCount = rows * y.pitch * elementSize
        try send(byteCount, to: y.region) { bytes in
            for row in 0..<rows {
                let line = bytes + row * y.pitch * elementSize
                for column in 0..<columns {
                    let value = values[row * columns + column]
                    if elementSize == 4 {
                        line.storeBytes(of: value, toByteOffset: column * 4, as: Float.self)
                    } else {
                        line.storeBytes(of: Float16(value), toByteOffset: column * 2, as: Float16.self)
                    }
                }
            }
        }
        return y
    }

    /// A list of numbers for the current pass.
    func upload(_ numbers: [Int32]) throws(BackendError) -> Region {
        let region = try take(numbers.count * 4)
        try send(numbers.count * 4, to: region) { bytes in
            numbers.withUnsafeBytes { bytes.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        }
        return region
    }

    /// Four numbers to a segment: first query, queries, first key, keys.
    func upload(_ sequences: Sequences) throws(BackendError) -> Region {
        if let segments = lane.segments, segments.values == sequences.segments { return segments.region }
        var numbers: [Int32] = []
        numbers.reserveCapacity(sequences.count * 4)
        for segment in sequences.segments {
            numbers.append(Int32(clamping: segment.queries.lowerBound))
            numbers.append(Int32(clamping: segment.queries.count))
            numbers.append(Int32(clamping: segment.keys.lowerBound))
            numbers.append(Int32(clamping: segment.keys.count))
        }
        let region = try upload(numbers)
        lane.segments = (sequences.segments, region)
        return region
    }

    /// Copies what `fill` writes into pinned memory and starts sending it to the beginning of the region.
    func send(_ byteCount: Int, to region: Region, _ fill: (UnsafeMutableRawPointer) -> Void) throws(BackendError) {
        guard byteCount > 0 else { return }
        let bytes = try lane.staging.take(byteCount)
        fill(bytes)
        try lane.send(bytes, byteCount, to: region)
    }

    /// Sends much in pieces: one is copied into pinned memory, by several threads, while the one before it is sent. A single thread
    /// copies some 10 GB a second, which is what 60,000 pictures of 224x224 are.
    func send(_ source: UnsafeRawBufferPointer, to region: Region) throws(BackendError) {
        guard let base = source.baseAddress, source.count > 0 else { return }
        let staged = try lane.staging.take(source.count)
        let piece = 4 << 20, share = 1 << 20
        // Addresses as numbers: pointers may not be handed to other threads, and these wait for the copy's end here.
        let (from, to) = (UInt(bitPattern: base), UInt(bitPattern: staged))
        for start in stride(from: 0, to: source.count, by: piece) {
            let count = min(piece, source.count - start)
            DispatchQueue.concurrentPerform(iterations: (count + share - 1) / share) { index in
                let at = UInt(start + index * share)
                guard let to = UnsafeMutableRawPointer(bitPattern: to + at),
                    let from = UnsafeRawPointer(bitPattern: from + at)
                else { return }
                to.copyMemory(from: from, byteCount: min(share, count - index * share))
            }
            try lane.send(staged + start, count, to: region, at: start)
        }
    }

    // MARK: Weights

    /// A buffer that lives as long as the model, with its values from its creation on: a write on one queue, blocking or
    /// not, was seen to arrive late for kernels of another (Intel's CPU runtime 2026.22).
    func weightBuffer<Element: BitwiseCopyable>(_ values: [Element], for what: String) throws(BackendError) -> Buffer {
        if values.isEmpty { return zeros }
        let byteCount = values.count * MemoryLayout<Element>.stride
        guard byteCount <= Int(clamping: description.largestAllocation) else {
            throw BackendError(
                .outOfMemory,
                "OpenCL: \(what) takes \(byteCount >> 20) MiB and \(device.identifier) allows"
                    + " \(description.largestAllocation >> 20) MiB in one piece")
        }
        return try values.withUnsafeBytes { bytes in
            Result { () throws(BackendError) in
                try Buffer(cl, context, CL_MEM_READ_ONLY, byteCount, copying: bytes.baseAddress, for: what)
            }
        }.get()
    }

    private func halves(_ values: [Float]) -> [UInt16] {
        [UInt16](unsafeUninitializedCapacity: values.count) { halves, initialized in
            values.withUnsafeBufferPointer { values in
                if let from = values.baseAddress, let to = halves.baseAddress { ch_halves(to, from, values.count) }
            }
            initialized = values.count
        }
    }

    /// The same, stored as the precision says.
    func elementBuffer(_ values: [Float], for what: String) throws(BackendError) -> Buffer {
        elementSize == 4
            ? try weightBuffer(values, for: what)
            : try weightBuffer(halves(values), for: what)
    }

    /// A small vector of floats, or zeros' buffer where there is none.
    func floatBuffer(_ tensor: HostTensor?, for what: String) throws(BackendError) -> Buffer {
        guard let tensor else { return zeros }
        return try weightBuffer(tensor.floats(), for: what)
    }

    private func zeroFill(_ buffer: Buffer, on lane: Lane) throws(BackendError) {
        var zero: UInt32 = 0
        try check(
            cl.clEnqueueFillBuffer(lane.queue, buffer.handle, &zero, 4, 0, buffer.byteCount, 0, nil, nil),
            "clearing a buffer")
        try lane.finish()
    }

    /// Zeros for at least so many columns.
    func needZeros(columns: Int) throws(BackendError) {
        guard columns * elementSize > zeros.byteCount else { return }
        let larger = try Buffer(cl, context, CL_MEM_READ_ONLY, columns * elementSize, for: "zeros")
        try zeroFill(larger, on: lanes[0])
        zeros = larger
    }

    // MARK: Running

    /// Binds and enqueues one kernel in the current lane.
    func run(
        _ kernel: Kernel, groups: (Int, Int, Int), items: Int, itemRows: Int = 1, _ bind: (inout Call) -> Void
    ) throws(BackendError) {
        var call = Call(cl, kernel)
        bind(&call)
        try lane.enqueue(call, groups: groups, items: items, itemRows: itemRows)
    }

    /// Takes the first step of which a tile builds and passes its self-check, with all tiles that do.
    private func chooseMatrixStep(_ steps: [MatrixStep], _ tiles: [MatrixTile]?) throws(BackendError) {
        for step in steps {
            matrixStep = step
            var passed: [MatrixTile] = []
            // Where nothing that was remembered runs any more, what is shipped.
            let remembered = tiles == nil && usesTuning ? rememberedTiles(step) : []
            let shipped = tiles?.filter { $0.step == step } ?? MatrixTile.table(step)
            var findings = tiles == nil ? rememberedFindings(step) : [:]
            let known = findings
            let tried = (remembered.isEmpty ? shipped : remembered).filter { tile in
                switch known[tile.description] {
                case .refused: return false
                case .sharesByArgument: sharesByArgument.insert(tile)
                case nil: break
                }
                return true
            }
            // Of those that are not named, the first that passes speaks for its step; the others are checked when they are first chosen, since
            // building them all takes seconds. That takes another lane than the pass under way has.
            let waits = tiles == nil && laneCount > 1
            if !waits { programs.prebuild(tried.map { request($0) }) }
            for tile in remembered + shipped {
                if tile == shipped.first, !passed.isEmpty { break }
                if waits, !passed.isEmpty, known[tile.description].map(\.isRefusal) != true {
                    uncheckedTiles.insert(tile)
                    passed.append(tile)
                    continue
                }
                do throws(BackendError) {
                    if case .refused(let reason) = known[tile.description] { throw BackendError(.kernel, reason) }
                    if let finding = try checkTile(tile, mayReopen: true) { findings[tile.description] = finding }
                    passed.append(tile)
                } catch {
                    notices.append("linear \(tile) was passed over on \(device.identifier): \(error.description)")
                    // A fault may have been another program's.
                    if error.code == .kernel {
                        findings[tile.description] = .refused(error.description)
                    } else {
                        try reopen()
                    }
                }
            }
            matrixTiles = passed
            if tiles == nil, findings != known { remember(findings, step) }
            // A step that is left with its small tiles alone is slower than the next.
            if tiles == nil ? passed.contains(where: { $0.rate >= 0.9 }) : !passed.isEmpty {
                // In plain C it is slow, and the conformance suite's to check.
                wgmmaAttention = step == .wgmma ? (emulatesMatrixSteps ? .sound : .unchecked) : .none
                if wgmmaAttention == .unchecked, laneCount == 1 { try checkAttention() }
                return
            }
        }
        matrixStep = nil
        matrixTiles = []
    }

    /// Checks a tile by itself, with its shared memory declared, then as an argument; what of it is to be remembered.
    private func checkTile(_ tile: MatrixTile, mayReopen: Bool) throws(BackendError) -> Finding? {
        let others = matrixTiles
        matrixTiles = [tile]
        defer { matrixTiles = others }
        do throws(BackendError) {
            try checkMatrixProduct()
            return nil
        } catch {
            guard tile.sharedMemory > 48 << 10, !emulatesMatrixSteps, !sharesByArgument.contains(tile) else {
                throw error
            }
            if error.code != .kernel {
                guard mayReopen else { throw error }
                try reopen()
            }
            sharesByArgument.insert(tile)
            try checkMatrixProduct()
            return .sharesByArgument
        }
    }

    /// Whether a tile may be used that has not been checked until now.
    func isSound(_ tile: MatrixTile) throws(BackendError) -> Bool {
        guard uncheckedTiles.remove(tile) != nil else { return true }
        var findings = rememberedFindings(tile.step)
        do throws(BackendError) {
            guard let finding = try checkTile(tile, mayReopen: false) else { return true }
            findings[tile.description] = finding
            remember(findings, tile.step)
            return true
        } catch {
            // Drivers also refuse launches for want of resources, some of which may be had another time.
            guard error.code == .kernel || error.code == .outOfMemory, matrixTiles.count > 1 else {
                // Nothing is known of it: a device that is used again looks again.
                uncheckedTiles.insert(tile)
                throw error
            }
            if error.code == .kernel {
                findings[tile.description] = .refused(error.description)
                remember(findings, tile.step)
            }
            leaveOut(tile, because: error)
            return false
        }
    }

    /// A tile is chosen no more; said, as of those that are passed over at the start.
    func leaveOut(_ tile: MatrixTile, because error: BackendError) {
        matrixTiles.removeAll { $0 == tile }
        notices.append("linear \(tile) was passed over on \(device.identifier): \(error.description)")
    }

    /// Takes the attention of wgmma where it builds and passes its self-check; else there is that of mma.
    func checkAttention() throws(BackendError) {
        wgmmaAttention = .sound
        do throws(BackendError) {
            programs.prebuild(wgmmaAttentionRequests)
            try checkWGMMAAttention()
        } catch {
            guard error.code == .kernel || error.code == .outOfMemory else {
                wgmmaAttention = .unchecked
                throw error
            }
            wgmmaAttention = .none
            notices.append("attention wgmma was passed over on \(device.identifier): \(error.description)")
        }
    }

    /// Runs a pass of one's own beside the one that may be open, which has another lane.
    func apart<Value>(_ body: () throws(BackendError) -> Value) throws(BackendError) -> Value {
        let (outer, wasOpen) = (current, passIsOpen)
        defer { (current, passIsOpen) = (outer, wasOpen) }
        return try body()
    }

    /// Takes the first tile whose kernel builds and passes its self-check.
    func chooseLinearTile() throws(BackendError) {
        if linearTiles.isEmpty { return }
        let tuned = usesTuning && !namesTiles ? rememberedTile() : nil
        let candidates = (tuned.map { [$0] } ?? []) + linearTiles
        linearTiles = []
        defer { if linearTile == tuned { tunedTile = tuned } }
        var failure = BackendError(.kernel, "there is no variant of the matrix product to try")
        for tile in candidates {
            linearTile = tile
            do throws(BackendError) {
                try checkLinear(layout: .panels)
                return
            } catch {
                notices.append("linear \(tile) was passed over on \(device.identifier): \(error.description)")
                failure = error
            }
        }
        throw failure
    }
}
