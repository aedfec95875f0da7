// The contract on the processor's own cores. A pass that is alone runs at the call, its operations shared out over one thread
// pool; of several, each is one thread's (Lane.swift).

import CCPU
import CLIPCompute

/// Which code multiplies matrices.
package enum MatrixProduct: String, Sendable, CaseIterable {
    /// Our own kernels where there are some for the processor's instruction set, else OpenBLAS where it is installed.
    case automatic
    case own
    case openBLAS
}

/// Kernels for one instruction set.
package enum InstructionSet: Int, Sendable, CaseIterable, Comparable {
    /// What every processor of the architecture has: SSE2, NEON.
    case base
    case avx2
    /// AVX2 with dot products of bytes (AVX-VNNI): in fp32 the same as AVX2.
    case avx2VNNI
    case avx512
    /// AVX-512 with dot products of bytes (VNNI).
    case avx512VNNI
    /// NEON with dot products of bytes (SDOT): in fp32 the same as the base.
    case neonDot

    package static func < (a: InstructionSet, b: InstructionSet) -> Bool { a.rawValue < b.rawValue }

    /// The best that processor and operating system allow.
    package static var best: InstructionSet {
        InstructionSet(rawValue: Int(ccpu_best_instruction_set().rawValue)) ?? .base
    }

    /// All that they allow, the best last.
    package static var available: [InstructionSet] {
        allCases.filter { ccpu_has_instruction_set($0.code) }
    }

    var code: ccpu_instruction_set { ccpu_instruction_set(UInt32(rawValue)) }
    /// `avx512vnni`, `avx512f`, `avx2vnni`, `avx2`, `sse2`, `neondot`, `neon`.
    package var name: String { String(cString: ccpu_instruction_set_name(code)) }
}

package struct CPUOptions: Sendable {
    /// None: as many as the scheduler and the control group allow.
    package var threads: Int?
    package var precision: Precision
    package var matrixProduct: MatrixProduct
    /// None: the best there is.
    package var instructionSet: InstructionSet?
    /// For tests: passes that are alone are one thread's too.
    package var usesLanesAlways: Bool

    package init(
        threads: Int? = nil, precision: Precision = .fp32, matrixProduct: MatrixProduct = .automatic,
        instructionSet: InstructionSet? = nil, usesLanesAlways: Bool = false
    ) {
        self.threads = threads
        self.precision = precision
        self.matrixProduct = matrixProduct
        self.instructionSet = instructionSet
        self.usesLanesAlways = usesLanesAlways
    }
}

package final class CPUBackend: Backend {
    package typealias Matrix = CPUMatrix
    package typealias Norm = CPUNorm
    package typealias Linear = CPULinear
    package typealias QueryKeyValue = CPUQueryKeyValue
    package typealias PooledAttention = CPUPooledAttention
    package typealias Convolution = CPUConvolution
    package typealias Patches = CPUPatches
    package typealias Tokens = CPUTokens
    package typealias AttentionBias = CPUAttentionBias

    package final class QueryKeyValueMatrix {
        let matrix: CPUMatrix
        let shape: AttentionShape

        init(_ matrix: CPUMatrix, _ shape: AttentionShape) {
            self.matrix = matrix
            self.shape = shape
        }
    }

    package let device: DeviceInfo
    package let precision: Precision
    /// Lanes, each with one thread; 1: every pass is alone.
    private let laneThreads: Int
    /// While a lane computes one pass, the next waits for it.
    package var laneCount: Int { laneThreads == 1 ? 1 : 2 * laneThreads }
    package private(set) var busySeconds = 0.0
    private var passBegan = ContinuousClock.now
    /// The end of what `busySeconds` counts.
    private var busyUntil = ContinuousClock.now

    private let context: OpaquePointer
    private let set: InstructionSet
    private let usesLanesAlways: Bool
    private let threads: Int
    /// The arena of passes that are alone.
    private let ownArena: Arena
    private var lanes: [Lane] = []
    private var lanesBegun = 0
    /// Where the current pass is one thread's: which, and what was asked for and not handed over.
    private var current: (lane: Lane, work: LaneWork)?
    private var results: [UInt64: [Float]] = [:]
    private var submitted: [UInt64: (lane: Lane, work: LaneWork)] = [:]
    private var passes: UInt64 = 0
    private var arena: Arena { current?.lane.arena ?? ownArena }

    package init(options: CPUOptions = CPUOptions()) throws(BackendError) {
        guard options.precision != .fp16 else {
            throw BackendError(
                .unsupported, "The CPU backend computes in fp32 and int8, not in fp16; use --precision fp32.")
        }
        let set = options.instructionSet ?? .best
        guard InstructionSet.available.contains(set) else {
            throw BackendError(
                .unsupported,
                "This processor has no \(set.name); its best instruction set is \(InstructionSet.best.name).")
        }
        let usesOpenBLAS: Bool
        switch options.matrixProduct {
        case .own: usesOpenBLAS = false
        case .openBLAS:
            if let reason = CPUBackend.openBLASProblem { throw BackendError(.unavailable, reason) }
            usesOpenBLAS = true
        case .automatic:
            usesOpenBLAS = (set == .base || set == .neonDot) && CPUBackend.openBLASProblem == nil
        }
        threads = max(1, options.threads ?? Int(ccpu_available_threads()))
        precision = options.precision
        self.set = set
        usesLanesAlways = options.usesLanesAlways
        // OpenBLAS multiplies for one caller at a time.
        laneThreads = usesOpenBLAS ? 1 : threads
        ownArena = try Arena()
        guard let context = ccpu_create(Int32(threads), set.code, usesOpenBLAS) else {
            throw BackendError(
                .outOfMemory, "The CPU backend could not start \(threads) threads; ask for fewer with --threads.")
        }
        self.context = context
        let openBLAS = "OpenBLAS \(String(cString: ccpu_openblas_description()))"
        let name = String(cString: ccpu_processor_name())
        let memory = ccpu_physical_memory()
        device = DeviceInfo(
            identifier: "cpu", kind: .cpu, name: name.isEmpty ? "CPU" : name,
            driver: usesOpenBLAS ? openBLAS : "built-in kernels", memory: memory > 0 ? memory : nil,
            precisions: [.fp32, .int8],
            capabilities: [
                set.name, "threads \(threads)", "matrix products: \(usesOpenBLAS ? openBLAS : "own \(set.name)")",
            ])
    }

    deinit {
        lanes = []
        ccpu_destroy(context)
    }

    /// Rows of a lane's pass: enough to reuse the weights it reads, few enough that the activations of a block stay in the
    /// last cache.
    private static let laneRows = 400

    package func preferredRows(width: Int) -> Int {
        laneThreads > 1 ? laneThreads * CPUBackend.laneRows : max(CPUBackend.laneRows, threads * 100)
    }

    package func concurrentPasses(of rows: Int, alone: Bool) -> Int {
        // With fewer rows, waiting for each other costs the threads less than reading all weights each.
        rows < (alone ? laneThreads * CPUBackend.laneRows : CPUBackend.laneRows / 2) ? 1 : laneThreads
    }

    /// Operations per second that no product can exceed: multiply-adds out of registers, of floats or in int8 of bytes,
    /// measured.
    package func measurePeak(seconds: Double) -> Double { ccpu_peak_flops(context, precision == .int8, seconds) }

    /// Why OpenBLAS cannot be used, in one sentence; none where it can. Opens it.
    package static var openBLASProblem: String? { ccpu_openblas_open().map { String(cString: $0) } }

    // MARK: Load

    package func prepare(_ parameters: NormParameters) throws(BackendError) -> CPUNorm { try CPUNorm(parameters) }

    package func prepare(_ parameters: LinearParameters) throws(BackendError) -> CPULinear {
        // Without bias, activation and gate: the last projection, one row a sequence, all of whose error is the result's.
        let isProjection = parameters.bias.isEmpty && parameters.activation == .none && !parameters.gated
        return try CPULinear(context: context, parameters, quantizes: precision == .int8 && !isProjection)
    }

    package func prepare(_ parameters: QueryKeyValueParameters) throws(BackendError) -> CPUQueryKeyValue {
        try CPUQueryKeyValue(context: context, parameters, quantizes: precision == .int8)
    }

    package func prepare(_ parameters: PooledAttentionParameters) throws(BackendError) -> CPUPooledAttention {
        var projection = LinearParameters(
            weight: parameters.queryWeight, bias: parameters.queryBias.map { [$0] } ?? [])
        // One row of each sequence: little work, and all of the result.
        func full(_ parameters: LinearParameters) throws(BackendError) -> CPULinear {
            try CPULinear(context: context, parameters, quantizes: false)
        }
        let query: CPUPooledAttention.Query
        switch parameters.query {
        case .row:
            projection.norm = parameters.norm
            query = .row(try full(projection))
        case .learned(let vector):
            let source = try upload(vector.floats(), rows: 1, columns: vector.count)
            query = .learned(try linear(source, full(projection)).floats())
        case .mean(let positions):
            query = .mean(try full(projection), positions: positions.floats())
        }
        return try CPUPooledAttention(context: context, parameters, query: query)
    }

    package func prepare(_ parameters: ConvolutionParameters) throws(BackendError) -> CPUConvolution {
        try CPUConvolution(context: context, parameters, quantizes: precision == .int8)
    }

    package func prepare(_ parameters: PatchParameters) throws(BackendError) -> CPUPatches {
        try CPUPatches(context: context, parameters, quantizes: precision == .int8)
    }

    package func prepare(_ parameters: TokenParameters) throws(BackendError) -> CPUTokens { CPUTokens(parameters) }

    package func prepareAttentionBias(_ bias: HostTensor) throws(BackendError) -> CPUAttentionBias {
        CPUAttentionBias(bias)
    }

    // MARK: Passes

    package func begin(alone: Bool) throws(BackendError) {
        current = nil
        if laneThreads == 1 || alone && !usesLanesAlways {
            // The threads of this pass are the lanes' too.
            for lane in lanes { lane.wait() }
            ownArena.forgetDamage()
            ownArena.guards = guardsMemory
            passBegan = .now
            return
        }
        if lanes.count < laneThreads { lanes.append(try Lane(set, share: laneThreads)) }
        let lane = lanes[lanesBegun % laneThreads]
        lanesBegun += 1
        if guardsMemory || lane.arena.retainsReturned {
            lane.wait()
            lane.arena.reclaim()
            lane.arena.forgetDamage()
        }
        lane.arena.guards = guardsMemory
        lane.arena.retainsReturned = guardsMemory
        current = (lane, LaneWork())
    }

    package func submit(_ result: CPUMatrix) throws(BackendError) -> Ticket {
        passes += 1
        if let (lane, work) = current {
            work.finish(with: result)
            lane.add(work)
            submitted[passes] = (lane, work)
            current = nil
        } else {
            count(from: passBegan, to: .now)
            results[passes] = result.floats()
        }
        return Ticket(number: passes)
    }

    package func wait(_ ticket: Ticket) throws(BackendError) -> [Float] {
        if let (lane, work) = submitted.removeValue(forKey: ticket.number) {
            lane.wait(for: work.number)
            count(from: work.began, to: work.ended)
            if work.ranOutOfMemory { throw CPUBackend.noMemory }
            return work.result
        }
        guard let result = results.removeValue(forKey: ticket.number) else {
            throw BackendError(
                .execution, "Pass \(ticket.number) was not submitted to the CPU, or was waited on before.")
        }
        return result
    }

    private func count(from began: ContinuousClock.Instant, to ended: ContinuousClock.Instant) {
        if ended > busyUntil { busySeconds += (ended - max(began, busyUntil)) / .seconds(1) }
        busyUntil = max(busyUntil, ended)
    }

    /// Runs an operation now, or keeps it for the pass's lane. It must hold no matrix, only what `view` says of it.
    private func run(_ operation: @escaping (OpaquePointer) -> Void) {
        if let current { current.work.add(operation) } else { operation(context) }
    }

    // MARK: Operations

    package func upload(_ values: [Float], rows: Int, columns: Int) throws(BackendError) -> CPUMatrix {
        precondition(values.count == rows * columns, "\(values.count) values do not fill \(rows) x \(columns)")
        let y = try make(rows, columns)
        let contents = y.contents
        run { _ in contents.set(values) }
        return y
    }

    package func patches(_ pixels: Pixels, _ patches: CPUPatches) throws(BackendError) -> CPUMatrix {
        let size = patches.patchSize
        let width = patches.linear.outputs
        let perPicture =
            (pixels.height / size) * (pixels.width / size) + (patches.classToken == nil ? 0 : 1)
        precondition(
            patches.positions == nil || patches.positions?.count == perPicture * width,
            "positions do not fit pictures of \(pixels.height) x \(pixels.width)")
        let y = try make(pixels.count * perPicture, width)
        let (view, pictures) = (y.view, pictures(pixels))
        try packForLane(patches.linear)
        run { context in
            pictures.withView { pictures in
                withOptionalPointer(patches.classToken) { classToken in
                    withOptionalPointer(patches.positions) { positions in
                        ccpu_patches(
                            context, patches.linear.pointer, size, pictures, patches.levels, classToken, positions,
                            width, view)
                    }
                }
            }
        }
        patches.linear.letGoOnceUsed()
        return try finished(y)
    }

    package func pixels(_ pixels: Pixels, _ normalization: PixelNormalization) throws(BackendError) -> CPUMatrix {
        let y = try make(pixels.count * pixels.height * pixels.width, 3)
        let (view, pictures) = (y.view, pictures(pixels))
        run { context in pictures.withView { ccpu_pixels(context, $0, normalization.levels, view) } }
        return y
    }

    package func tokens(_ ids: [Int32], positions: [Int32], _ tokens: CPUTokens) throws(BackendError) -> CPUMatrix {
        precondition(tokens.positions == nil || ids.count == positions.count, "ids and positions differ in number")
        precondition(
            ids.allSatisfy { $0 >= 0 && Int($0) < tokens.table.count / tokens.width }, "an id outside the vocabulary")
        if let table = tokens.positions {
            precondition(
                positions.allSatisfy { $0 >= 0 && Int($0) < table.count / tokens.width }, "a position outside the table"
            )
        }
        let y = try make(ids.count, tokens.width)
        let view = y.view
        run { context in
            let table = HostMatrix(tokens.table).parts(columns: tokens.width)[0]
            withOptionalPointer(tokens.positions) {
                ccpu_tokens(context, table, $0, tokens.width, ids, positions, view)
            }
        }
        return y
    }

    package func norm(_ x: CPUMatrix, _ norm: CPUNorm) throws(BackendError) {
        precondition(x.columns == norm.columns, "a norm of \(norm.columns) columns on \(x.columns)")
        let view = x.view
        run { context in ccpu_norm_apply(context, norm.pointer, view, view) }
    }

    package func linear(_ x: CPUMatrix, _ linear: CPULinear) throws(BackendError) -> CPUMatrix {
        let y = try make(x.rows, linear.outputs)
        try apply(linear, x, y, adds: false)
        return y
    }

    package func linear(_ x: CPUMatrix, _ linear: CPULinear, addingTo y: CPUMatrix) throws(BackendError) {
        precondition(x !== y, "a linear cannot add to its own input")
        precondition(y.rows == x.rows && y.columns == linear.outputs, "the sum's shape is not the result's")
        try apply(linear, x, y, adds: true)
    }

    package func queryKeyValue(
        _ x: CPUMatrix, rows: [Int]?, _ queryKeyValue: CPUQueryKeyValue
    ) throws(BackendError) -> QueryKeyValueMatrix {
        var matrix = try linear(x, queryKeyValue.linear)
        if let rows { matrix = try selectRows(matrix, rows) }
        return QueryKeyValueMatrix(matrix, queryKeyValue.shape)
    }

    package func attention(
        _ x: QueryKeyValueMatrix, _ sequences: Sequences, mask: AttentionMask<CPUAttentionBias>
    ) throws(BackendError) -> CPUMatrix {
        precondition(sequences.rows == x.matrix.rows, "\(sequences.rows) rows in sequences, \(x.matrix.rows) in x")
        let y = try make(x.matrix.rows, x.shape.heads * x.shape.valueWidth)
        let segments = sequences.segments.map(ccpu_segment.init)
        var causal = false
        var bias: CPUAttentionBias?
        switch mask {
        case .none: break
        case .causal:
            causal = true
            precondition(
                sequences.segments.allSatisfy { $0.queries.isEmpty || $0.queries.lowerBound >= $0.keys.lowerBound },
                "a query that sees no key")
        case .bias(let table):
            precondition(
                table.heads == x.shape.heads && sequences.longestQueries <= table.queries
                    && sequences.longestKeys <= table.keys, "an attention bias smaller than the sequences")
            bias = table
        }
        let (shape, from, to) = (x.shape.code, x.matrix.view, y.view)
        run { [causal, bias] context in
            withOptionalPointer(bias?.values) {
                ccpu_attention(
                    context, shape, from, segments, segments.count, causal, $0, bias?.queries ?? 0, bias?.keys ?? 0, to)
            }
        }
        return try finished(y)
    }

    package func pooledAttention(
        _ x: CPUMatrix, _ sequences: Sequences, rows: [Int], _ pooledAttention: CPUPooledAttention
    ) throws(BackendError) -> CPUMatrix {
        precondition(sequences.rows == x.rows, "\(sequences.rows) rows in sequences, \(x.rows) in x")
        let shape = pooledAttention.shape
        var keys = x
        if let norm = pooledAttention.norm {
            precondition(norm.columns == x.columns, "a norm of \(norm.columns) columns on \(x.columns)")
            keys = try make(x.rows, x.columns)
            let (from, to) = (x.view, keys.view)
            run { context in ccpu_norm_apply(context, norm.pointer, from, to) }
        }
        var segments = sequences.segments.map(ccpu_segment.init)
        let queries: CPUMatrix
        var residual: CPUMatrix?
        switch pooledAttention.query {
        case .row(let projection):
            precondition(rows.count == sequences.count, "one row for each segment")
            let selected = try selectRows(x, rows)
            queries = try linear(selected, projection)
            residual = selected
        case .learned(let query):
            precondition(rows.isEmpty, "a learned query takes no rows")
            queries = try make(sequences.count, query.count)
            let (contents, count) = (queries.contents, sequences.count)
            run { _ in contents.set((0..<count).flatMap { _ in query }) }
        case .mean(let projection, let positions):
            precondition(rows.isEmpty, "a mean query takes no rows")
            precondition(positions.count >= (sequences.longestKeys + 1) * x.columns, "positions too few for the rows")
            var first = 0
            let firstRows = segments.map { segment in
                defer { first += segment.key_count + 1 }
                return first
            }
            let extended = try make(first, x.columns)
            let (from, to, columns) = (keys.view, extended.view, x.columns)
            run { [segments] context in
                ccpu_prepend_means(context, from, segments, segments.count, firstRows, positions, columns, to)
            }
            for i in segments.indices {
                segments[i].key_first = firstRows[i]
                segments[i].key_count += 1
            }
            keys = extended
            queries = try linear(selectRows(extended, firstRows), projection)
        }
        let values = try make(sequences.count, shape.heads * shape.valueWidth)
        let (rowsOfQueries, rowsOfKeys, to) = (queries.view, keys.view, values.view)
        run { [segments] context in
            ccpu_pooled_attention_apply(
                context, pooledAttention.pointer, rowsOfQueries, rowsOfKeys, segments, segments.count, to)
        }
        guard let residual else { return try linear(values, pooledAttention.output) }
        try linear(values, pooledAttention.output, addingTo: residual)
        return residual
    }

    package func convolution(
        _ x: CPUMatrix, _ shape: ImageShape, _ convolution: CPUConvolution, residual: CPUMatrix?
    ) throws(BackendError) -> CPUMatrix {
        precondition(x.rows == shape.rows && x.columns == convolution.inputs, "the picture is not the matrix's")
        let result = shape.convolved(
            kernelHeight: convolution.kernelHeight, kernelWidth: convolution.kernelWidth, stride: convolution.stride,
            padding: convolution.padding)
        precondition(
            residual == nil || (residual?.rows == result.rows && residual?.columns == convolution.outputs),
            "the residual's shape is not the result's")
        let y = try make(result.rows, convolution.outputs)
        let (from, added, to) = (x.view, residual?.view ?? ccpu_matrix(), y.view)
        run { context in
            ccpu_convolution(
                context, convolution.pointer, from, shape.count, shape.height, shape.width, convolution.kernelHeight,
                convolution.kernelWidth, convolution.stride, convolution.padding, added,
                convolution.activatesAfterResidual, to)
        }
        return try finished(y)
    }

    package func averagePool(_ x: CPUMatrix, _ shape: ImageShape, size: Int) throws(BackendError) -> CPUMatrix {
        precondition(x.rows == shape.rows, "the picture is not the matrix's")
        let y = try make(shape.count * (shape.height / size) * (shape.width / size), x.columns)
        let (from, to) = (x.view, y.view)
        run { context in ccpu_average_pool(context, from, shape.count, shape.height, shape.width, size, to) }
        return y
    }

    package func selectRows(_ x: CPUMatrix, _ rows: [Int]) throws(BackendError) -> CPUMatrix {
        precondition(rows.allSatisfy { $0 >= 0 && $0 < x.rows }, "a row outside the matrix")
        let y = try make(rows.count, x.columns)
        let (from, to) = (x.view, y.view)
        run { context in ccpu_select_rows(context, from, rows, to) }
        return y
    }

    package func meanRows(_ x: CPUMatrix, _ sequences: Sequences) throws(BackendError) -> CPUMatrix {
        precondition(sequences.rows == x.rows, "\(sequences.rows) rows in sequences, \(x.rows) in x")
        let y = try make(sequences.count, x.columns)
        let (from, to, segments) = (x.view, y.view, sequences.segments.map(ccpu_segment.init))
        run { context in ccpu_mean_rows(context, from, segments, to) }
        return y
    }

    package func normalizeRows(_ x: CPUMatrix) throws(BackendError) {
        let view = x.view
        run { context in ccpu_normalize_rows(context, view) }
    }

    // MARK: For the conformance suite

    package var guardsMemory = false {
        didSet { arena.guards = guardsMemory }
    }

    package func damagedGuards() throws(BackendError) -> Int {
        if let (lane, work) = current {
            lane.add(work)
            lane.wait()
            current = (lane, LaneWork())
        }
        return arena.damagedGuards
    }

    // MARK: Helpers

    private func make(_ rows: Int, _ columns: Int) throws(BackendError) -> CPUMatrix {
        try CPUMatrix(arena: arena, rows: rows, columns: columns)
    }

    private func apply(_ linear: CPULinear, _ x: CPUMatrix, _ y: CPUMatrix, adds: Bool) throws(BackendError) {
        precondition(x.columns == linear.inputs, "a linear of \(linear.inputs) inputs on \(x.columns) columns")
        let (from, to) = (x.view, y.view)
        try packForLane(linear)
        run { context in ccpu_linear_apply(context, linear.pointer, linear.norm?.pointer, from, to, adds) }
        linear.letGoOnceUsed()
        _ = try finished(y)
    }

    /// What lanes use is packed before: several may come to it at once.
    private func packForLane(_ linear: CPULinear) throws(BackendError) {
        if current != nil, !ccpu_linear_pack(context, linear.pointer) { throw CPUBackend.noMemory }
    }

    /// Pictures for an operation: as they lie, or for a lane a copy, since the caller may overwrite his.
    private func pictures(_ pixels: Pixels) -> KeptPictures {
        guard current != nil else { return KeptPictures(pixels: pixels) }
        switch pixels.storage {
        case .bytes(let buffer): return KeptPictures(pixels: pixels, bytes: Array(buffer))
        case .floats(let buffer): return KeptPictures(pixels: pixels, floats: Array(buffer))
        }
    }

    /// The result, unless a thread found no memory on the way; a lane's pass tells at its end.
    private func finished(_ y: CPUMatrix) throws(BackendError) -> CPUMatrix {
        if current == nil, ccpu_take_memory_failure(context) { throw CPUBackend.noMemory }
        return y
    }

    private static let noMemory = BackendError(
        .outOfMemory, "The CPU backend has no memory to work in; use a smaller batch size.")
}

extension ccpu_segment {
    fileprivate init(_ segment: Sequences.Segment) {
        self.init(
            query_first: segment.queries.lowerBound, query_count: segment.queries.count,
            key_first: segment.keys.lowerBound, key_count: segment.keys.count)
    }
}

/// Pictures in the caller's memory, or in one's own.
private struct KeptPictures {
    let pixels: Pixels
    var bytes: [UInt8]?
    var floats: [Float]?

    func withView(_ body: (ccpu_pictures) -> Void) {
        func call(_ bytes: UnsafePointer<UInt8>?, _ floats: UnsafePointer<Float>?) {
            body(
                ccpu_pictures(
                    bytes: bytes, floats: floats, count: pixels.count, height: pixels.height, width: pixels.width))
        }
        if let bytes { return bytes.withUnsafeBufferPointer { call($0.baseAddress, nil) } }
        if let floats { return floats.withUnsafeBufferPointer { call(nil, $0.baseAddress) } }
        switch pixels.storage {
        case .bytes(let buffer): call(buffer.baseAddress, nil)
        case .floats(let buffer): call(nil, buffer.baseAddress)
        }
    }
}
