// Vectors of the space that pictures and sentences share.

/// The embeddings of a batch: `count` rows of `dimension` float32 numbers.
public struct Embeddings: Sendable, Equatable {
    /// All rows, one after the other: `[count, dimension]`.
    public let values: [Float]
    /// Length of one vector.
    public let dimension: Int

    /// Rows of `dimension` numbers each.
    ///
    /// - Precondition: `values` holds a whole number of rows.
    public init(values: [Float], dimension: Int) {
        precondition(dimension > 0 && values.count % dimension == 0, "values are not whole rows of \(dimension)")
        self.values = values
        self.dimension = dimension
    }

    /// Number of vectors.
    public var count: Int { values.count / dimension }

    /// The vector of one row.
    public subscript(row: Int) -> ArraySlice<Float> {
        values[(row * dimension)..<((row + 1) * dimension)]
    }

    /// Every row divided by its Euclidean length: `features / features.norm(dim=-1, keepdim=True)`.
    /// A row of zeros stays zero.
    public func normalized() -> Embeddings {
        var result = values
        for row in 0..<count {
            let range = (row * dimension)..<((row + 1) * dimension)
            var sum: Float = 0
            for index in range { sum += values[index] * values[index] }
            if sum == 0 { continue }
            let scale = 1 / sum.squareRoot()
            for index in range { result[index] *= scale }
        }
        return Embeddings(values: result, dimension: dimension)
    }

    /// The cosine of the angle between every row and every row of `other`: `[count][other.count]`, from -1 to 1.
    ///
    /// - Precondition: both have the same dimension.
    public func cosineSimilarity(to other: Embeddings) -> [[Float]] {
        precondition(dimension == other.dimension, "embeddings of \(dimension) and \(other.dimension) numbers")
        let left = normalized()
        let right = other.normalized()
        return (0..<count).map { row in
            (0..<other.count).map { column in
                var sum: Float = 0
                for index in 0..<dimension {
                    sum += left.values[row * dimension + index] * right.values[column * dimension + index]
                }
                return sum
            }
        }
    }
}

extension Sequence where Element == Float {
    /// exp(x - max) / Σ exp(x - max), in double: the probabilities that `logits.softmax(dim=-1)` gives.
    func softmax() -> [Float] {
        let highest = self.max() ?? 0
        let powers = map { exponential(Double($0 - highest)) }
        let total = powers.reduce(0, +)
        return powers.map { Float($0 / total) }
    }
}

extension Float {
    /// 1 / (1 + exp(-x)), in double.
    var sigmoid: Float { Float(1 / (1 + exponential(-Double(self)))) }
}
