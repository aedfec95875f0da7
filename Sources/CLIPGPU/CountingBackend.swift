// How much there is to compute: the model's graph, run on a backend that knows sizes only.

import CLIPCompute

/// Counts the multiply-adds of matrix products, and computes nothing.
///
/// Counted is what the best known way needs: keys and values of pooled attention are never made, causal attention looks
/// at what it may see.
final class CountingBackend: Backend {
    final class Matrix {
        let rows: Int
        let columns: Int

        init(_ rows: Int, _ columns: Int) {
            self.rows = rows
            self.columns = columns
        }
    }

    final class QueryKeyValueMatrix {
        let rows: Int
        let shape: AttentionShape

        init(_ rows: Int, _ shape: AttentionShape) {
            self.rows = rows
            self.shape = shape
        }
    }

    struct Linear {
        let inputs: Int
        /// Rows of the weight, two for each output where gated.
        let products: Int
        let outputs: Int
    }
    typealias Norm = Void
    typealias QueryKeyValue = QueryKeyValueParameters
    typealias PooledAttention = PooledAttentionParameters
    typealias Convolution = ConvolutionParameters
    typealias Patches = PatchParameters
    typealias Tokens = Int
    typealias AttentionBias = Void

    /// Multiply-adds since it was last set to zero.
    var multiplyAdds = 0

    let precision = CLIPCompute.Precision.fp32
    let laneCount = 1
    let busySeconds = 0.0
    var guardsMemory = false
    let device = DeviceInfo(
        identifier: "counting", kind: .cpu, name: "", driver: "", memory: nil, precisions: [], capabilities: [])

    func preferredRows(width: Int) -> Int { .max / 2 }

    func prepare(_: NormParameters) {}
    func prepare(_ parameters: LinearParameters) -> Linear {
        Linear(inputs: parameters.inputs, products: parameters.weight.rows, outputs: parameters.outputs)
    }
    func prepare(_ parameters: QueryKeyValueParameters) -> QueryKeyValueParameters { parameters }
    func prepare(_ parameters: PooledAttentionParameters) -> PooledAttentionParameters { parameters }
    func prepare(_ parameters: ConvolutionParameters) -> ConvolutionParameters { parameters }
    func prepare(_ parameters: PatchParameters) -> PatchParameters { parameters }
    func prepare(_ parameters: TokenParameters) -> Int { parameters.table.columns }
    func prepareAttentionBias(_: HostTensor) {}

    func begin(alone _: Bool) {}
    func submit(_: Matrix) -> Ticket { Ticket(number: 0) }
    func wait(_: Ticket) -> [Float] { [] }
    func damagedGuards() -> Int { 0 }

    func upload(_: [Float], rows: Int, columns: Int) -> Matrix { Matrix(rows, columns) }

    func patches(_ pixels: Pixels, _ patches: PatchParameters) -> Matrix {
        let size = patches.patchSize
        let count = pixels.count * (pixels.height / size) * (pixels.width / size)
        multiplyAdds += count * 3 * size * size * patches.width
        return Matrix(
            pixels.count * patches.rowsPerPicture(height: pixels.height, width: pixels.width), patches.width)
    }

    func pixels(_ pixels: Pixels, _: PixelNormalization) -> Matrix {
        Matrix(pixels.count * pixels.height * pixels.width, 3)
    }

    func tokens(_ ids: [Int32], positions: [Int32], _ width: Int) -> Matrix { Matrix(ids.count, width) }

    func norm(_: Matrix, _: Void) {}

    func linear(_ x: Matrix, _ linear: Linear) -> Matrix {
        multiplyAdds += x.rows * linear.inputs * linear.products
        return Matrix(x.rows, linear.outputs)
    }

    func linear(_ x: Matrix, _ linear: Linear, addingTo y: Matrix) { _ = self.linear(x, linear) }

    func queryKeyValue(_ x: Matrix, rows: [Int]?, _ parameters: QueryKeyValueParameters) -> QueryKeyValueMatrix {
        multiplyAdds += x.rows * x.columns * parameters.weight.rows
        return QueryKeyValueMatrix(rows?.count ?? x.rows, parameters.shape)
    }

    func attention(_ x: QueryKeyValueMatrix, _ sequences: Sequences, mask: AttentionMask<Void>) -> Matrix {
        let perPair = x.shape.heads * (x.shape.keyWidth + x.shape.valueWidth)
        for segment in sequences.segments {
            var pairs = segment.queries.count * segment.keys.count
            if case .causal = mask {
                pairs = segment.queries.reduce(0) { $0 + min($1, segment.keys.upperBound - 1) }
                pairs += segment.queries.count * (1 - segment.keys.lowerBound)
            }
            multiplyAdds += pairs * perPair
        }
        return Matrix(x.rows, x.shape.heads * x.shape.valueWidth)
    }

    func pooledAttention(
        _ x: Matrix, _ sequences: Sequences, rows: [Int], _ parameters: PooledAttentionParameters
    ) -> Matrix {
        let shape = parameters.shape
        let keys = shape.heads * shape.keyWidth
        let values = shape.heads * shape.valueWidth
        if case .learned = parameters.query {
        } else {
            multiplyAdds += sequences.count * keys * parameters.queryWeight.columns
        }
        multiplyAdds += sequences.count * (x.columns * (keys + values) + values * parameters.output.outputs)
        for segment in sequences.segments { multiplyAdds += 2 * shape.heads * segment.keys.count * x.columns }
        return Matrix(sequences.count, parameters.output.outputs)
    }

    func convolution(
        _ x: Matrix, _ shape: ImageShape, _ convolution: ConvolutionParameters, residual: Matrix?
    ) -> Matrix {
        let kernel = convolution.weight.shape
        let result = shape.convolved(
            kernelHeight: kernel[2], kernelWidth: kernel[3], stride: convolution.stride, padding: convolution.padding)
        multiplyAdds += result.rows * convolution.weight.count
        return Matrix(result.rows, kernel[0])
    }

    func averagePool(_ x: Matrix, _ shape: ImageShape, size: Int) -> Matrix {
        Matrix(shape.count * (shape.height / size) * (shape.width / size), x.columns)
    }

    func selectRows(_ x: Matrix, _ rows: [Int]) -> Matrix { Matrix(rows.count, x.columns) }
    func meanRows(_ x: Matrix, _ sequences: Sequences) -> Matrix { Matrix(sequences.count, x.columns) }
    func normalizeRows(_: Matrix) {}
}
