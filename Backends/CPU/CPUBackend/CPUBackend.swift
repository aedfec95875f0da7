// The contract on the processor's own cores. Operations run at the call, shared out over one thread pool; a lane is the
// arena itself.

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

    package init(
        threads: Int? = nil, precision: Precision = .fp32, matrixProduct: MatrixProduct = .automatic,
        instructionSet: InstructionSet? = nil
    ) {
        self.threads = threads
        self.precision = precision
        self.matrixProduct = matrixProduct
        self.instructionSet = instructionSet
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
    package let laneCount = 1
    package private(set) var busySeconds = 0.0
    private var passBegan = ContinuousClock.now

    private let context: OpaquePointer
    private let arena: Arena
    private let threads: Int
    private var results: [UInt64: [Float]] = [:]
    private var passes: UInt64 = 0

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
        arena = try Arena()
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

    deinit { ccpu_destroy(context) }

    /// Enough rows for every thread to reuse the weights it reads, few enough that the activations of a block stay in
    /// the last cache.
    package func preferredRows(width: Int) -> Int { max(400, threads * 100) }

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

    package func begin() throws(BackendError) {
        arena.forgetDamage()
        passBegan = ContinuousClock.now
    }

    package func submit(_ result: CPUMatrix) throws(BackendError) -> Ticket {
        passes += 1
        busySeconds += (ContinuousClock.now - passBegan) / .seconds(1)
        results[passes] = result.floats()
        return Ticket(number: passes)
    }

    package func wait(_ ticket: Ticket) throws(BackendError) -> [Float] {
        guard let result = results.removeValue(forKey: ticket.number) else {
            throw BackendError(
                .execution, "Pass \(ticket.number) was not submitted to the CPU, or was waited on before.")
        }
        return result
    }

    // MARK: Operations

    package func upload(_ values: [Float], rows: Int, columns: Int) throws(BackendError) -> CPUMatrix {
        precondition(values.count == rows * columns, "\(values.count) values do not fill \(rows) x \(columns)")
        let y = try make(rows, columns)
        values.withUnsafeBufferPointer { source in
            guard let from = source.baseAddress else { return }
            for row in 0..<rows { (y.values + row * y.pitch).update(from: from + row * columns, count: columns) }
        }
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
        withOptionalPointer(patches.classToken) { classToken in
            withOptionalPointer(patches.positions) { positions in
                ccpu_patches(
                    context, patches.linear.pointer, size, pixels.view, patches.levels, classToken, positions, width,
                    y.view)
            }
        }
        patches.linear.letGoOnceUsed()
        return try finished(y)
    }

    package func pixels(_ pixels: Pixels, _ normalization: PixelNormalization) throws(BackendError) -> CPUMatrix {
        let y = try make(pixels.count * pixels.height * pixels.width, 3)
        ccpu_pixels(context, pixels.view, normalization.levels, y.view)
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
        let table = HostMatrix(tokens.table).parts(columns: tokens.width)[0]
        withOptionalPointer(tokens.positions) {
            ccpu_tokens(context, table, $0, tokens.width, ids, positions, y.view)
        }
        return y
    }

    package func norm(_ x: CPUMatrix, _ norm: CPUNorm) throws(BackendError) {
        precondition(x.columns == norm.columns, "a norm of \(norm.columns) columns on \(x.columns)")
        ccpu_norm_apply(context, norm.pointer, x.view, x.view)
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
        _ x: CPUMatrix, _ queryKeyValue: CPUQueryKeyValue
    ) throws(BackendError) -> QueryKeyValueMatrix {
        QueryKeyValueMatrix(try linear(x, queryKeyValue.linear), queryKeyValue.shape)
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
        withOptionalPointer(bias?.values) {
            ccpu_attention(
                context, x.shape.code, x.matrix.view, segments, segments.count, causal, $0, bias?.queries ?? 0,
                bias?.keys ?? 0, y.view)
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
            ccpu_norm_apply(context, norm.pointer, x.view, keys.view)
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
            for row in 0..<sequences.count {
                query.withUnsafeBufferPointer {
                    guard let from = $0.baseAddress else { return }
                    (queries.values + row * queries.pitch).update(from: from, count: query.count)
                }
            }
        case .mean(let projection, let positions):
            precondition(rows.isEmpty, "a mean query takes no rows")
            precondition(positions.count >= (sequences.longestKeys + 1) * x.columns, "positions too few for the rows")
            var first = 0
            let firstRows = segments.map { segment in
                defer { first += segment.key_count + 1 }
                return first
            }
            let extended = try make(first, x.columns)
            positions.withUnsafeBufferPointer {
                ccpu_prepend_means(
                    context, keys.view, segments, segments.count, firstRows, $0.baseAddress, x.columns, extended.view)
            }
            for i in segments.indices {
                segments[i].key_first = firstRows[i]
                segments[i].key_count += 1
            }
            keys = extended
            queries = try linear(selectRows(extended, firstRows), projection)
        }
        let values = try make(sequences.count, shape.heads * shape.valueWidth)
        ccpu_pooled_attention_apply(
            context, pooledAttention.pointer, queries.view, keys.view, segments, segments.count, values.view)
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
        ccpu_convolution(
            context, convolution.pointer, x.view, shape.count, shape.height, shape.width, convolution.kernelHeight,
            convolution.kernelWidth, convolution.stride, convolution.padding, residual?.view ?? ccpu_matrix(),
            convolution.activatesAfterResidual, y.view)
        return try finished(y)
    }

    package func averagePool(_ x: CPUMatrix, _ shape: ImageShape, size: Int) throws(BackendError) -> CPUMatrix {
        precondition(x.rows == shape.rows, "the picture is not the matrix's")
        let y = try make(shape.count * (shape.height / size) * (shape.width / size), x.columns)
        ccpu_average_pool(context, x.view, shape.count, shape.height, shape.width, size, y.view)
        return y
    }

    package func selectRows(_ x: CPUMatrix, _ rows: [Int]) throws(BackendError) -> CPUMatrix {
        precondition(rows.allSatisfy { $0 >= 0 && $0 < x.rows }, "a row outside the matrix")
        let y = try make(rows.count, x.columns)
        ccpu_select_rows(context, x.view, rows, y.view)
        return y
    }

    package func meanRows(_ x: CPUMatrix, _ sequences: Sequences) throws(BackendError) -> CPUMatrix {
        precondition(sequences.rows == x.rows, "\(sequences.rows) rows in sequences, \(x.rows) in x")
        let y = try make(sequences.count, x.columns)
        ccpu_mean_rows(context, x.view, sequences.segments.map(ccpu_segment.init), y.view)
        return y
    }

    package func normalizeRows(_ x: CPUMatrix) throws(BackendError) { ccpu_normalize_rows(context, x.view) }

    // MARK: For the conformance suite

    package var guardsMemory: Bool {
        get { arena.guards }
        set { arena.guards = newValue }
    }

    package func damagedGuards() throws(BackendError) -> Int { arena.damagedGuards }

    // MARK: Helpers

    private func make(_ rows: Int, _ columns: Int) throws(BackendError) -> CPUMatrix {
        try CPUMatrix(arena: arena, rows: rows, columns: columns)
    }

    private func apply(_ linear: CPULinear, _ x: CPUMatrix, _ y: CPUMatrix, adds: Bool) throws(BackendError) {
        precondition(x.columns == linear.inputs, "a linear of \(linear.inputs) inputs on \(x.columns) columns")
        ccpu_linear_apply(context, linear.pointer, linear.norm?.pointer, x.view, y.view, adds)
        linear.letGoOnceUsed()
        _ = try finished(y)
    }

    /// The result, unless a thread found no memory on the way.
    private func finished(_ y: CPUMatrix) throws(BackendError) -> CPUMatrix {
        if ccpu_take_memory_failure(context) {
            throw BackendError(.outOfMemory, "The CPU backend has no memory to work in; use a smaller batch size.")
        }
        return y
    }
}

extension ccpu_segment {
    fileprivate init(_ segment: Sequences.Segment) {
        self.init(
            query_first: segment.queries.lowerBound, query_count: segment.queries.count,
            key_first: segment.keys.lowerBound, key_count: segment.keys.count)
    }
}

extension Pixels {
    fileprivate var view: ccpu_pictures {
        switch storage {
        case .bytes(let buffer):
            ccpu_pictures(bytes: buffer.baseAddress, floats: nil, count: count, height: height, width: width)
        case .floats(let buffer):
            ccpu_pictures(bytes: nil, floats: buffer.baseAddress, count: count, height: height, width: width)
        }
    }
}
