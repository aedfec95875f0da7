// The contract between the model and a device.

/// Runs the fused operations that CLIP models are made of, on one device.
///
/// **Values.** A `Matrix` is a logical matrix of floats: rows are tokens, or positions of an NHWC picture; columns are
/// features. How it lies in memory is the backend's own affair. Only `upload`, `wait`, pixels and ids are row-major.
/// A batch is packed rows with `Sequences` beside them; there are no strides, views or broadcasts.
///
/// **Passes.** Work is done in passes. `begin` takes the next lane of the arena (waiting for the ticket that held it),
/// operations enqueue in order into that lane, `submit` hands back a ticket without waiting, `wait` returns the rows.
/// A matrix belongs to the pass that made it. Its memory returns to the lane when the last reference goes: since a
/// lane runs in order, a later operation may reuse that memory at once, so the graph frees simply by letting go.
///
/// **Same bytes.** A row of a result depends, bitwise, on the rows of its own sequence only: not on the size of the
/// batch, on its neighbours, nor on the lane. The order of summation is a function of an operation's inputs and
/// outputs, never of its number of rows.
///
/// **Ownership.** A backend has one owner at a time and is not `Sendable`.
///
/// **Errors.** Sizes that contradict each other are programming errors of the model floor (`precondition`); everything
/// that a device can refuse is thrown. After an error, and without `submit`, the pass is over: `begin` starts afresh.
package protocol Backend: AnyObject {
    associatedtype Matrix: AnyObject
    /// Queries, keys and values as attention likes to read them.
    associatedtype QueryKeyValueMatrix: AnyObject
    associatedtype Norm
    associatedtype Linear
    associatedtype QueryKeyValue
    associatedtype PooledAttention
    associatedtype Convolution
    associatedtype Patches
    associatedtype Tokens
    associatedtype AttentionBias

    var device: DeviceInfo { get }
    var precision: Precision { get }

    /// Rows of activations that fill the device well in one pass, for a model of this width. More is allowed.
    func preferredRows(width: Int) -> Int
    /// Of so many rows that are left, those of the next pass; at least one, if there are any.
    func preferredRows(width: Int, of rows: Int) -> Int
    /// Passes that may be in flight at once; at least one.
    var laneCount: Int { get }
    /// Passes that are best computed beside each other, each by its share of the device, where a job has so many rows
    /// altogether; 1 where its passes are best computed one after the other, each by all of the device. `alone`: no other
    /// job is under way beside it.
    func concurrentPasses(of rows: Int, alone: Bool) -> Int
    /// Seconds that the device has spent on the passes waited for so far, each from its first operation to its last;
    /// what overlaps is counted once.
    var busySeconds: Double { get }

    // MARK: Load: hand weights over once; the backend lays them out as it likes

    func prepare(_ parameters: NormParameters) throws(BackendError) -> Norm
    func prepare(_ parameters: LinearParameters) throws(BackendError) -> Linear
    func prepare(_ parameters: QueryKeyValueParameters) throws(BackendError) -> QueryKeyValue
    func prepare(_ parameters: PooledAttentionParameters) throws(BackendError) -> PooledAttention
    func prepare(_ parameters: ConvolutionParameters) throws(BackendError) -> Convolution
    func prepare(_ parameters: PatchParameters) throws(BackendError) -> Patches
    func prepare(_ parameters: TokenParameters) throws(BackendError) -> Tokens
    /// `[heads, queries, keys]`
    func prepareAttentionBias(_ bias: HostTensor) throws(BackendError) -> AttentionBias

    // MARK: Passes

    /// Starts a pass in the next lane; waits for the pass that held it before. `alone`: it is to have all of the device,
    /// and whoever waits for it is kept waiting the least; otherwise others are computed beside it.
    func begin(alone: Bool) throws(BackendError)
    /// Ends the pass and starts reading `result` back; does not wait.
    func submit(_ result: Matrix) throws(BackendError) -> Ticket
    /// Waits for a submitted pass and returns its result, row-major. Each ticket is waited on once.
    func wait(_ ticket: Ticket) throws(BackendError) -> [Float]

    // MARK: Operations

    /// `[rows, columns]` from the host, row-major.
    func upload(_ values: [Float], rows: Int, columns: Int) throws(BackendError) -> Matrix

    /// Pictures into tokens: `[count · rows per picture, width]`. Pixels beyond a whole number of patches are ignored,
    /// as by a strided convolution.
    func patches(_ pixels: Pixels, _ patches: Patches) throws(BackendError) -> Matrix

    /// Pictures into NHWC rows `[count · height · width, 3]`, normalised: the input of a convolutional stem.
    func pixels(_ pixels: Pixels, _ normalization: PixelNormalization) throws(BackendError) -> Matrix

    /// y[r] = table[ids[r]] + positions[positions[r]]: `[ids.count, width]`. Every id and position is within its table.
    func tokens(_ ids: [Int32], positions: [Int32], _ tokens: Tokens) throws(BackendError) -> Matrix

    /// x = norm(x), in place.
    func norm(_ x: Matrix, _ norm: Norm) throws(BackendError)

    /// y = linear(x), as `LinearParameters` says: `[rows, outputs]`.
    func linear(_ x: Matrix, _ linear: Linear) throws(BackendError) -> Matrix

    /// y = y + linear(x), as `LinearParameters` says, in place. y is not x.
    func linear(_ x: Matrix, _ linear: Linear, addingTo y: Matrix) throws(BackendError)

    /// The q, k and v of every row of x; with `rows`, those of x[rows[i]] in row i, so that a row which several sequences
    /// have in common is computed once.
    func queryKeyValue(
        _ x: Matrix, rows: [Int]?, _ queryKeyValue: QueryKeyValue
    ) throws(BackendError) -> QueryKeyValueMatrix

    /// softmax(scale · q kᵀ + mask) v for each head, heads side by side: `[rows, heads · valueWidth]`. Every row is a
    /// query of exactly one segment. PyTorch: `F.scaled_dot_product_attention`.
    func attention(
        _ x: QueryKeyValueMatrix, _ sequences: Sequences, mask: AttentionMask<AttentionBias>
    ) throws(BackendError) -> Matrix

    /// One row for each segment, attending to the segment's keys: `[segments, outputs]`. With `.row` parameters,
    /// `rows[i]` is the row of x that is the query of segment i, and is added to the result; otherwise `rows` is empty.
    /// The segments' queries are not read.
    func pooledAttention(
        _ x: Matrix, _ sequences: Sequences, rows: [Int], _ pooledAttention: PooledAttention
    ) throws(BackendError) -> Matrix

    /// `[outputs' rows, outputs]`; `residual`, where given, has the result's shape.
    func convolution(
        _ x: Matrix, _ shape: ImageShape, _ convolution: Convolution, residual: Matrix?
    ) throws(BackendError) -> Matrix

    /// Means of squares of `size` by `size` positions, stride `size`, no padding: PyTorch's `F.avg_pool2d`.
    func averagePool(_ x: Matrix, _ shape: ImageShape, size: Int) throws(BackendError) -> Matrix

    /// y[i] = x[rows[i]]: `[rows.count, columns]`.
    func selectRows(_ x: Matrix, _ rows: [Int]) throws(BackendError) -> Matrix

    /// The mean of each segment's keys: `[segments, columns]`.
    func meanRows(_ x: Matrix, _ sequences: Sequences) throws(BackendError) -> Matrix

    /// Each row divided by its Euclidean length, in place; a row of zeros stays zero.
    func normalizeRows(_ x: Matrix) throws(BackendError)

    // MARK: For the conformance suite

    /// While set, new matrices are filled with NaN and stand between guard bands.
    var guardsMemory: Bool { get set }
    /// Guard bands found damaged in the current pass; waits for what was enqueued.
    func damagedGuards() throws(BackendError) -> Int
}

/// A pass on its way.
package struct Ticket: Hashable, Sendable {
    package let number: UInt64

    package init(number: UInt64) { self.number = number }
}

extension Backend {
    package func concurrentPasses(of rows: Int, alone: Bool) -> Int { 1 }

    /// A pass that is alone.
    package func begin() throws(BackendError) { try begin(alone: true) }

    package func queryKeyValue(
        _ x: Matrix, _ queryKeyValue: QueryKeyValue
    ) throws(BackendError) -> QueryKeyValueMatrix {
        try self.queryKeyValue(x, rows: nil, queryKeyValue)
    }

    package func preferredRows(width: Int, of rows: Int) -> Int { min(rows, preferredRows(width: width)) }
}
