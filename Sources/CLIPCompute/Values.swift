// The small values that cross the contract at each call: pixels, sequences, masks, sizes.

/// Mean and deviation of the three channels, in units where white is 1.
package struct PixelNormalization: Hashable, Sendable {
    package var mean: [Float]
    package var deviation: [Float]

    package init(mean: [Float], deviation: [Float]) {
        precondition(mean.count == 3 && deviation.count == 3, "three channels")
        self.mean = mean
        self.deviation = deviation
    }

    /// OpenAI's, of `clip.load(…)[1]`.
    package static let openAI = PixelNormalization(
        mean: [0.48145466, 0.4578275, 0.40821073], deviation: [0.26862954, 0.26130258, 0.27577711])
}

/// A batch of equal-sized pictures in host memory, borrowed for the length of a call.
package struct Pixels {
    package enum Storage {
        /// `[count, height, width, 3]`, 8-bit RGB, not yet normalised.
        case bytes(UnsafeBufferPointer<UInt8>)
        /// `[count, 3, height, width]`, normalised: what the reference feeds its model.
        case floats(UnsafeBufferPointer<Float>)
    }
    package let storage: Storage
    package let count: Int
    package let height: Int
    package let width: Int

    package init(_ storage: Storage, count: Int, height: Int, width: Int) {
        let elements =
            switch storage {
            case .bytes(let buffer): buffer.count
            case .floats(let buffer): buffer.count
            }
        precondition(elements == count * height * width * 3, "pixels do not fill the pictures")
        self.storage = storage
        self.count = count
        self.height = height
        self.width = width
    }
}

/// Which rows of a matrix form a sequence, and what each may look at.
///
/// Rows of a batch are packed: sequence after sequence, no padding between. Queries and keys of a sequence are usually
/// the same rows; they differ where rows see less than their own sequence (CoCa's class token).
package struct Sequences: Sendable {
    package struct Segment: Hashable, Sendable {
        package var queries: Range<Int>
        package var keys: Range<Int>

        package init(queries: Range<Int>, keys: Range<Int>) {
            self.queries = queries
            self.keys = keys
        }
    }
    package let segments: [Segment]
    /// Rows of the matrix that the segments speak of.
    package let rows: Int

    package init(segments: [Segment], rows: Int) {
        self.segments = segments
        self.rows = rows
        precondition(
            segments.allSatisfy {
                !$0.keys.isEmpty && $0.keys.lowerBound >= 0 && $0.keys.upperBound <= rows
                    && $0.queries.lowerBound >= 0 && $0.queries.upperBound <= rows
            }, "a segment lies outside the matrix, or sees nothing")
    }

    /// Sequences of the given lengths, one after the other, each seeing all of itself.
    package init(lengths: [Int]) {
        var segments: [Segment] = []
        segments.reserveCapacity(lengths.count)
        var start = 0
        for length in lengths {
            segments.append(Segment(queries: start..<(start + length), keys: start..<(start + length)))
            start += length
        }
        self.init(segments: segments, rows: start)
    }

    package init(count: Int, length: Int) {
        self.init(lengths: [Int](repeating: length, count: count))
    }

    package var count: Int { segments.count }
    package var longestKeys: Int { segments.reduce(0) { max($0, $1.keys.count) } }
    package var longestQueries: Int { segments.reduce(0) { max($0, $1.queries.count) } }
}

/// What a query may see of its segment's keys. `Bias` is a backend's prepared bias table.
package enum AttentionMask<Bias> {
    case none
    /// Keys whose row in the matrix is not after the query's.
    case causal
    /// bias[head, i, j] is added to the scaled score of the i-th query of a segment and its j-th key (T5's relative
    /// positions). -infinity hides a key; no query may be left without one.
    case bias(Bias)
}

/// Rows of a matrix as the positions of NHWC pictures.
package struct ImageShape: Hashable, Sendable {
    package var count: Int
    package var height: Int
    package var width: Int

    package init(count: Int, height: Int, width: Int) {
        self.count = count
        self.height = height
        self.width = width
    }

    package var rows: Int { count * height * width }

    /// The shape after a convolution or a pooling: ⌊(side + 2 · padding - kernel) / stride⌋ + 1.
    package func convolved(kernelHeight: Int, kernelWidth: Int, stride: Int, padding: Int) -> ImageShape {
        ImageShape(
            count: count, height: (height + 2 * padding - kernelHeight) / stride + 1,
            width: (width + 2 * padding - kernelWidth) / stride + 1)
    }
}

/// A policy of the backend, chosen when it is made.
package enum Precision: String, Sendable, CaseIterable {
    /// Exact to rounding: float32 storage, products and sums.
    case fp32
    /// Halves in memory; sums and statistics in float32.
    case fp16
    /// Weights quantised per output channel, activations per row; norms, softmax and residuals in float32.
    case int8
}

/// What a device is and can do, as it says itself.
package struct DeviceInfo: Sendable {
    package enum Kind: String, Sendable { case cpu, gpu, accelerator }
    /// The switch that names it: `cpu`, `opencl:0`.
    package var identifier: String
    package var kind: Kind
    package var name: String
    /// Platform, library and driver version.
    package var driver: String
    /// Bytes the device can hold; none where unknown.
    package var memory: UInt64?
    package var precisions: [Precision]
    /// Facts that decide which kernels run, in the device's words: `avx512f`, `half`, `sub-groups 16`, `openblas SkylakeX`.
    package var capabilities: [String]

    package init(
        identifier: String, kind: Kind, name: String, driver: String, memory: UInt64?, precisions: [Precision],
        capabilities: [String]
    ) {
        self.identifier = identifier
        self.kind = kind
        self.name = name
        self.driver = driver
        self.memory = memory
        self.precisions = precisions
        self.capabilities = capabilities
    }
}

/// A failure of a device: one sentence that says what failed, where, and what to do.
package struct BackendError: Error, CustomStringConvertible, Sendable {
    package enum Code: Sendable {
        /// The device or its library is not there.
        case unavailable
        /// The device lacks the precision or an operation's size is beyond it.
        case unsupported
        case outOfMemory
        /// A kernel did not build or failed its self-check.
        case kernel
        /// The device reported an error while running.
        case execution
    }
    package var code: Code
    package var description: String

    package init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }
}
