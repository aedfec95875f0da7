// Positions for another number of patches or tokens than a model was trained with, as PyTorch's `F.interpolate` resizes
// them (align_corners=False). A result is a weighted sum of few samples along each axis.
import CLIPCompute

/// How positions are resized; each library has its own way.
enum PositionResizing {
    /// open_clip (`resize_pos_embed`) and timm: bicubic, antialias=True.
    case antialiasedBicubic
    /// transformers (`interpolate_pos_encoding`): bicubic.
    case bicubic
    /// open_clip's text positions (`resize_text_pos_embed`): linear.
    case linear

    /// Squares of more patches a side are not made, whatever a file asks for.
    static let mostPatches = 256

    /// The samples of each of `to` results along an axis of `from` samples, and their weights.
    func samples(from: Int, to: Int) -> [[(index: Int, weight: Double)]] {
        let scale = Double(from) / Double(to)
        return (0..<to).map { place in
            let centre = (Double(place) + 0.5) * scale
            switch self {
            case .antialiasedBicubic:
                let stretch = max(scale, 1)
                let first = max(Int(centre - 2 * stretch + 0.5), 0)
                let end = min(Int(centre + 2 * stretch + 0.5), from)
                let weights = (first..<end).map { Self.cubic((Double($0) - centre + 0.5) / stretch, a: -0.5) }
                let sum = weights.reduce(0, +)
                return zip(first..<end, weights).map { ($0, $1 / sum) }
            case .bicubic:
                let source = centre - 0.5
                let base = Int(source.rounded(.down))
                return (-1...2).map {
                    (min(max(base + $0, 0), from - 1), Self.cubic(source - Double(base + $0), a: -0.75))
                }
            case .linear:
                let source = max(centre - 0.5, 0)
                let base = Int(source)
                let weight = source - Double(base)
                return [(base, 1 - weight), (min(base + 1, from - 1), weight)]
            }
        }
    }

    /// The cubic convolution kernel (Keys 1981).
    private static func cubic(_ x: Double, a: Double) -> Double {
        let x = abs(x)
        if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
        if x < 2 { return (((x - 5) * x + 8) * x - 4) * a }
        return 0
    }
}

extension HostTensor {
    /// `[leading + from², columns]` to `[leading + to², columns]`: positions of a square of patches; the leading rows,
    /// the class token's, stay as they are.
    func resizedSquare(from: Int, to: Int, leading: Int, _ resizing: PositionResizing) -> HostTensor {
        guard from != to else { return self }
        let columns = shape[shape.count - 1]
        return mapped(to: [leading + to * to, columns]) { values in
            let samples = resizing.samples(from: from, to: to)
            let square = Array(values[(leading * columns)...])
            let wide = Self.resized(square, columns: columns, lines: from, length: from, samples)
            let turned = Self.transposed(wide, lines: from, length: to, columns: columns)
            let tall = Self.resized(turned, columns: columns, lines: to, length: from, samples)
            return values[..<(leading * columns)] + Self.transposed(tall, lines: to, length: to, columns: columns)
        }
    }

    /// `[from, columns]` to `[to, columns]`: positions of tokens.
    func resizedLine(to: Int, _ resizing: PositionResizing) -> HostTensor {
        guard shape[0] != to else { return self }
        let (from, columns) = (shape[0], shape[1])
        return mapped(to: [to, columns]) {
            Self.resized($0, columns: columns, lines: 1, length: from, resizing.samples(from: from, to: to))
        }
    }

    /// `[lines, length, columns]` to `[lines, samples.count, columns]`.
    private static func resized(
        _ values: [Float], columns: Int, lines: Int, length: Int, _ samples: [[(index: Int, weight: Double)]]
    ) -> [Float] {
        var result: [Float] = []
        result.reserveCapacity(lines * samples.count * columns)
        for line in 0..<lines {
            for sample in samples {
                for column in 0..<columns {
                    var sum = 0.0
                    for (index, weight) in sample {
                        sum += weight * Double(values[(line * length + index) * columns + column])
                    }
                    result.append(Float(sum))
                }
            }
        }
        return result
    }

    /// `[lines, length, columns]` to `[length, lines, columns]`.
    private static func transposed(_ values: [Float], lines: Int, length: Int, columns: Int) -> [Float] {
        var result: [Float] = []
        result.reserveCapacity(values.count)
        for place in 0..<length {
            for line in 0..<lines {
                let start = (line * length + place) * columns
                result += values[start..<(start + columns)]
            }
        }
        return result
    }
}
