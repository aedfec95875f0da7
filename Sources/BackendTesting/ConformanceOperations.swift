// The kinds of cases, one for each operation of the contract. Each makes its inputs from its name.

import CLIPCompute

// MARK: Inputs

extension Selection {
    /// The rows `rows` of row-major `values`; those of the first item are NaN where poisoned.
    func slice(_ values: [Float], columns: Int, rows: Range<Int>, firstItem: Range<Int>) -> [Float] {
        var part = Array(values[(rows.lowerBound * columns)..<(rows.upperBound * columns)])
        if isPoisoned { for i in 0..<(firstItem.count * columns) { part[i] = .nan } }
        return part
    }
}

/// Rows that norms find hard, in turn with ordinary ones.
func extremeRows(_ rows: Int, _ columns: Int, _ generator: inout Generator) -> [Float] {
    var values: [Float] = []
    values.reserveCapacity(rows * columns)
    for row in 0..<rows {
        var line = generator.normals(columns)
        switch row % 7 {
        case 1: line = line.map { 1e4 + $0 / 8 }  // great mean, tiny variance
        case 2: line = line.map { _ in 3.3 }  // no variance at all
        case 3: line[columns / 3] = 3e4  // one feature outshines all
        case 4: line = line.map { _ in 0 }
        case 5: line = line.map { $0 * 1e-3 }  // variance below epsilon
        case 6: line = line.map { ((1e4 + 64 * $0) / 8).rounded() * 8 }  // great mean, exact in halves
        default: break
        }
        values += line
    }
    return values
}

/// A norm's parameters and what the tolerance must know of them.
struct NormSample {
    enum Style: String { case none, layer, layerNoBias = "layer-no-bias", rms, rmsBias = "rms-bias" }
    let style: Style
    let gain: [Float]
    let bias: [Float]?
    /// Greater than any model's, so that a backend which takes another shows it.
    let epsilon: Float = 1e-3
    let type: ElementType

    /// `outliers`: eight channels 64 times the others, as trained models have them.
    init(
        _ style: Style, columns: Int, outliers: Bool = false, type: ElementType = .float32, _ generator: inout Generator
    ) {
        self.style = style
        self.type = type
        var gain = generator.normals(columns, deviation: 0.1, mean: 1)
        var bias = generator.normals(columns, deviation: 0.1)
        if outliers {
            for channel in outlierChannels(columns) {
                gain[channel] *= 64
                bias[channel] *= 64
            }
        }
        self.gain = gain
        self.bias = style == .layer || style == .rmsBias ? bias : nil
    }

    var parameters: NormParameters? {
        guard style != .none else { return nil }
        return NormParameters(
            kind: style == .rms || style == .rmsBias ? .rms : .layer,
            weight: HostTensor(gain, shape: [gain.count], as: type),
            bias: bias.map { HostTensor($0, shape: [$0.count], as: type) }, epsilon: epsilon)
    }

    /// The row before gain and bias, its deviation, and |mean| / deviation: how much an error of the mean grows.
    func statistics(_ row: ArraySlice<Float>) -> (normed: [Float], deviation: Double, condition: Float) {
        if style == .none { return (Array(row), 1, 0) }
        let n = Double(row.count)
        let isRMS = style == .rms || style == .rmsBias
        let mean = isRMS ? 0 : row.reduce(0) { $0 + Double($1) } / n
        let variance = row.reduce(0) { $0 + (Double($1) - mean) * (Double($1) - mean) } / n
        let deviation = (variance + Double(epsilon)).squareRoot()
        return (row.map { Float((Double($0) - mean) / deviation) }, deviation, Float(abs(mean) / deviation))
    }
}

func outlierChannels(_ columns: Int) -> [Int] { (0..<min(8, columns)).map { $0 * 7 % columns } }

// MARK: norm

struct NormCase: ConformanceOperation {
    var rows: Int
    var columns: Int
    var style = NormSample.Style.layer

    var name: String { "norm rows=\(rows) columns=\(columns) norm=\(style.rawValue) extreme" }
    var itemCount: Int { rows }

    private func sample() -> (x: [Float], norm: NormSample) {
        var generator = Generator(name)
        return (extremeRows(rows, columns, &generator), NormSample(style, columns: columns, &generator))
    }

    func prepare<B: Backend>(on backend: B) throws -> (Selection) throws -> B.Matrix {
        let (x, norm) = sample()
        guard let parameters = norm.parameters else { throw BackendError(.unsupported, "a norm case without norm") }
        let prepared = try backend.prepare(parameters)
        return { selection in
            let values = selection.slice(x, columns: columns, rows: selection.items, firstItem: 0..<1)
            let matrix = try backend.upload(values, rows: selection.items.count, columns: columns)
            try backend.norm(matrix, prepared)
            return matrix
        }
    }

    /// Each element of x is stored once and the result once; an error of the mean is amplified by |mean| / deviation.
    func allowed(_ expected: [Float], _ precision: Precision) -> [Float] {
        let (x, norm) = sample()
        var allowed = expected
        for row in 0..<rows {
            let line = x[(row * columns)..<((row + 1) * columns)]
            let (_, deviation, condition) = norm.statistics(line)
            for (c, value) in line.enumerated() {
                let gain = abs(norm.gain[c])
                allowed[row * columns + c] =
                    Tolerance.elementwise(precision)
                    * (abs(expected[row * columns + c]) + abs(norm.bias?[c] ?? 0)
                        + gain * (1 + (precision == .fp32 ? 0 : abs(value) / Float(deviation))))
                    + Tolerance.sum(columns, .fp32) * condition * gain
            }
        }
        return allowed
    }
}

// MARK: linear

struct LinearCase: ConformanceOperation {
    var rows: Int
    var inputs: Int
    var outputs: Int
    var norm = NormSample.Style.none
    var activation = Activation.none
    var gated = false
    var bias = true
    var layerScale = false
    var residual = false
    var type = ElementType.float32
    /// Tensors that the weight's rows (and the bias) are divided over.
    var parts = 1
    var transposed = false
    var aligned = true
    var outliers = false
    var extreme = false

    var name: String {
        "linear rows=\(rows) inputs=\(inputs) outputs=\(outputs) norm=\(norm.rawValue) activation=\(activation.rawValue)"
            + (gated ? " gated" : "") + (bias ? "" : " no-bias") + (layerScale ? " layer-scale" : "")
            + (residual ? " residual" : "") + (type == .float32 ? "" : " weights=\(type.rawValue)")
            + (parts == 1 ? "" : " parts=\(parts)") + (transposed ? " transposed" : "")
            + (aligned ? "" : " unaligned") + (outliers ? " outliers" : "") + (extreme ? " extreme" : "")
    }
    var itemCount: Int { rows }
    var columns: Int { outputs }

    private struct Sample {
        var x: [Float], y: [Float], norm: NormSample, parameters: LinearParameters
    }

    private func sample() -> Sample {
        var generator = Generator(name)
        let x = extreme ? extremeRows(rows, inputs, &generator) : generator.normals(rows * inputs)
        let y = residual ? generator.normals(rows * outputs) : []
        let norm = NormSample(norm, columns: inputs, outliers: outliers, type: type, &generator)
        let weightRows = gated ? 2 * outputs : outputs
        var weight = generator.normals(weightRows * inputs, deviation: 1 / Float(inputs).squareRoot())
        if outliers {
            for channel in outlierChannels(inputs) {
                for row in 0..<weightRows { weight[row * inputs + channel] /= 64 }
            }
        }
        var tensors: [HostTensor] = []
        var biases: [HostTensor] = []
        for part in 0..<parts {
            let range = (part * weightRows / parts)..<((part + 1) * weightRows / parts)
            var values: [Float] = []
            if transposed {
                for column in 0..<inputs { for row in range { values.append(weight[row * inputs + column]) } }
            } else {
                values = Array(weight[(range.lowerBound * inputs)..<(range.upperBound * inputs)])
            }
            let shape = transposed ? [inputs, range.count] : [range.count, inputs]
            tensors.append(HostTensor(values, shape: shape, as: type, aligned: aligned))
            if bias {
                let values = generator.normals(range.count, deviation: 0.1)
                biases.append(HostTensor(values, shape: [range.count], as: type, aligned: aligned))
            }
        }
        let scale = layerScale ? generator.normals(outputs, deviation: 0.1, mean: 0.5) : nil
        let parameters = LinearParameters(
            weight: HostMatrix(tensors, transposed: transposed), bias: biases, norm: norm.parameters,
            activation: activation, gated: gated,
            layerScale: scale.map { HostTensor($0, shape: [outputs], as: type, aligned: aligned) })
        return Sample(x: x, y: y, norm: norm, parameters: parameters)
    }

    func prepare<B: Backend>(on backend: B) throws -> (Selection) throws -> B.Matrix {
        let sample = sample()
        let linear = try backend.prepare(sample.parameters)
        return { selection in
            let count = selection.items.count
            let x = selection.slice(sample.x, columns: inputs, rows: selection.items, firstItem: 0..<1)
            let matrix = try backend.upload(x, rows: count, columns: inputs)
            guard residual else { return try backend.linear(matrix, linear) }
            let y = selection.slice(sample.y, columns: outputs, rows: selection.items, firstItem: 0..<1)
            let sum = try backend.upload(y, rows: count, columns: outputs)
            try backend.linear(matrix, linear, addingTo: sum)
            return sum
        }
    }

    /// For a = Σ x̂ ŵ with x̂ the row before gain and bias and ŵ the weight times the gain: `Tolerance.sum` relative to
    /// ‖x̂‖ ‖ŵ‖ / √inputs, to the bias, to what an error of the row's mean makes of ‖ŵ‖, and to the result itself.
    /// No activation is steeper than 1.13 (in the margin); the halves of a gate multiply.
    func allowed(_ expected: [Float], _ precision: Precision) -> [Float] {
        let sample = sample()
        let weight = sample.parameters.weight.floats()
        let biases = sample.parameters.bias.flatMap { $0.floats() }
        let scales = sample.parameters.layerScale?.floats()
        let root = Float(inputs).squareRoot()
        let columns = (0..<sample.parameters.weight.rows).map { o in
            let line = weight[(o * inputs)..<((o + 1) * inputs)]
            let folded = norm == .none ? Array(line) : zip(line, sample.norm.gain).map { $0 * $1 }
            // What the norm's bias becomes on its way through the weight is rounded as the bias is.
            let carried =
                sample.norm.style == .none
                ? 0 : zip(line, sample.norm.bias ?? []).reduce(0) { $0 + abs($1.0 * $1.1) } / root
            return (extent: extent(folded), bias: (biases.isEmpty ? 0 : abs(biases[o])) + carried)
        }
        let sum = Tolerance.sum(inputs, precision == .int8 ? .fp16 : precision)
        var allowed = expected
        for row in 0..<rows {
            let (normed, _, condition) = sample.norm.statistics(sample.x[(row * inputs)..<((row + 1) * inputs)])
            let x = extent(normed)
            func error(_ o: Int) -> (error: Float, size: Float) {
                let size = (x.norm / root + condition) * columns[o].extent.norm + columns[o].bias
                let quantized = precision == .int8 ? Tolerance.quantized(x, columns[o].extent) : 0
                return (sum * size + quantized, x.norm / root * columns[o].extent.norm + columns[o].bias)
            }
            for o in 0..<outputs {
                let i = row * outputs + o
                let first = error(o)
                var bound = first.error
                if gated {
                    // Each half is within four deviations of its size but for a few elements.
                    let second = error(o + outputs)
                    bound = 4 * (first.error * second.size + second.error * first.size)
                }
                let residual = residual ? abs(sample.y[i]) : 0
                bound *= abs(scales?[o] ?? 1)
                allowed[i] = bound + sum * (abs(expected[i]) + residual)
            }
        }
        return allowed
    }
}

// MARK: queryKeyValue and attention

struct AttentionCase: ConformanceOperation {
    enum Mask: String { case none, causal, bias, hiding }
    /// Rows of each sequence.
    var lengths: [Int]
    var inputs: Int
    var heads: Int
    var keyWidth: Int
    var valueWidth: Int
    var mask = Mask.none
    var norm = NormSample.Style.none
    var bias = true
    /// Deviation of the scores; 27 gives scores of ±80 and softmaxes of a single one.
    var peak: Float = 1
    /// CoCa's: the last row of a sequence sees all rows but the two before it, the others all but that last.
    var classToken = false
    /// Every row of a sequence stands twice in it, but is given once, and the last comes first.
    var repeats = false
    var type = ElementType.float32
    var parts = 1
    var transposed = false

    var name: String {
        return
            "attention lengths=\(spelled(lengths)) inputs=\(inputs) heads=\(heads) key=\(keyWidth) value=\(valueWidth)"
            + " mask=\(mask.rawValue) norm=\(norm.rawValue)" + (bias ? "" : " no-bias")
            + (peak == 1 ? "" : " peak=\(peak)") + (classToken ? " class-token" : "")
            + (repeats ? " repeats" : "")
            + (type == .float32 ? "" : " weights=\(type.rawValue)") + (parts == 1 ? "" : " parts=\(parts)")
            + (transposed ? " transposed" : "")
    }
    var itemCount: Int { lengths.count }
    var columns: Int { heads * valueWidth }

    func rows(of items: Range<Int>) -> Range<Int> { packedRows(of: items, lengths: lengths) }

    private func sequences(_ items: Range<Int>) -> Sequences {
        guard classToken else { return Sequences(lengths: Array(lengths[items])) }
        var segments: [Sequences.Segment] = []
        var start = 0
        for length in lengths[items] {
            let last = start + length - 1
            segments.append(.init(queries: start..<last, keys: start..<last))
            segments.append(.init(queries: last..<(last + 1), keys: start..<max(start + 1, last - 2)))
            start += length
        }
        return Sequences(segments: segments, rows: start)
    }

    func prepare<B: Backend>(on backend: B) throws -> (Selection) throws -> B.Matrix {
        var generator = Generator(name)
        let total = lengths.reduce(0, +)
        let x = generator.normals(total * inputs)
        let shape = AttentionShape(
            heads: heads, keyWidth: keyWidth, valueWidth: valueWidth, scale: 1 / Float(keyWidth).squareRoot())
        let widths = [heads * keyWidth, heads * keyWidth, heads * valueWidth]
        let deviation = 1 / Float(inputs).squareRoot()
        var weights = widths.enumerated().map { i, width in
            (width, generator.normals(width * inputs, deviation: deviation * (i == 0 ? peak : 1)))
        }
        var biases = widths.map { ($0, generator.normals($0, deviation: 0.1)) }
        if parts == 1 {
            weights = [(widths.reduce(0, +), weights.flatMap { $0.1 })]
            biases = [(widths.reduce(0, +), biases.flatMap { $0.1 })]
        }
        let queryKeyValue = try backend.prepare(
            QueryKeyValueParameters(
                shape: shape, norm: NormSample(norm, columns: inputs, &generator).parameters,
                weight: HostMatrix(
                    weights.map { width, values in
                        guard transposed else {
                            return HostTensor(values, shape: [width, inputs], as: type, aligned: false)
                        }
                        let columns = (0..<inputs).flatMap { c in (0..<width).map { values[$0 * inputs + c] } }
                        return HostTensor(columns, shape: [inputs, width], as: type, aligned: false)
                    }, transposed: transposed),
                bias: bias ? biases.map { HostTensor($0.1, shape: [$0.0], as: type, aligned: false) } : []))
        let attentionMask: AttentionMask<B.AttentionBias>
        switch mask {
        case .none: attentionMask = .none
        case .causal: attentionMask = .causal
        case .bias, .hiding:
            let longest = lengths.reduce(0, max)
            var table = generator.normals(heads * longest * longest)
            if mask == .hiding {
                // Of each query a third of the keys, never the first.
                for i in table.indices where i % longest != 0 && generator.next() % 3 == 0 { table[i] = -.infinity }
            }
            attentionMask = .bias(
                try backend.prepareAttentionBias(HostTensor(table, shape: [heads, longest, longest])))
        }
        return { selection in
            let rows = rows(of: selection.items)
            let values = selection.slice(
                x, columns: inputs, rows: rows, firstItem: 0..<lengths[selection.items.lowerBound])
            let sequences = sequences(selection.items)
            guard repeats else {
                let matrix = try backend.upload(values, rows: rows.count, columns: inputs)
                return try backend.attention(
                    backend.queryKeyValue(matrix, queryKeyValue), sequences, mask: attentionMask)
            }
            var given: [ArraySlice<Float>] = []
            var places: [Int] = []
            var first = 0
            for length in lengths[selection.items] {
                for row in 0..<length {
                    if row % 2 == 0 { given.append(values[((first + row) * inputs)...].prefix(inputs)) }
                    places.append(given.count - 1)
                }
                first += length
            }
            let matrix = try backend.upload(
                given.reversed().flatMap { $0 }, rows: given.count, columns: inputs)
            let projected = try backend.queryKeyValue(
                matrix, rows: places.map { given.count - 1 - $0 }, queryKeyValue)
            return try backend.attention(projected, sequences, mask: attentionMask)
        }
    }

    /// Queries, keys and values are sums of `inputs` terms, scores of `keyWidth` more. An error δ of the scores moves
    /// the result by at most 2 δ max|v|, and δ is relative to the scores, whose deviation is `peak`.
    func allowed(_ expected: [Float], _ precision: Precision) -> [Float] {
        let bound = Tolerance.sum(inputs + keyWidth, precision) * 2 * (1 + peak)
        return expected.map { bound + Tolerance.elementwise(precision) * abs($0) }
    }
}

/// 3x50, or 3,50,2.
func spelled(_ lengths: [Int]) -> String {
    Set(lengths).count == 1
        ? "\(lengths.count)x\(lengths[0])" : lengths.map(String.init).joined(separator: ",")
}

/// The rows of packed sequences of these lengths.
func packedRows(of items: Range<Int>, lengths: [Int]) -> Range<Int> {
    let start = lengths[..<items.lowerBound].reduce(0, +)
    return start..<(start + lengths[items].reduce(0, +))
}

// MARK: pooledAttention

struct PooledAttentionCase: ConformanceOperation {
    enum Query: String { case row, learned, mean }
    var query: Query
    var lengths: [Int]
    var inputs: Int
    var heads: Int
    var keyWidth: Int
    var valueWidth: Int
    /// With `.row` the result has the inputs' width, since the row is added to it.
    var outputs: Int
    var norm = NormSample.Style.none
    var bias = true
    var layerScale = false
    /// Keys without the segment's last row, and no queries.
    var shortKeys = false
    var peak: Float = 1

    var name: String {
        return
            "pooledAttention query=\(query.rawValue) lengths=\(spelled(lengths)) inputs=\(inputs) heads=\(heads) key=\(keyWidth)"
            + " value=\(valueWidth) outputs=\(outputs) norm=\(norm.rawValue)" + (bias ? "" : " no-bias")
            + (layerScale ? " layer-scale" : "") + (shortKeys ? " short-keys" : "") + (peak == 1 ? "" : " peak=\(peak)")
    }
    var itemCount: Int { lengths.count }
    var columns: Int { outputs }

    private func input() -> (x: [Float], generator: Generator) {
        var generator = Generator(name)
        return (generator.normals(lengths.reduce(0, +) * inputs), generator)
    }

    /// Within its sequence, the row that is the query: a different one in each.
    private func queryRow(_ item: Int) -> Int { (item * 5 + lengths[item] - 1) % lengths[item] }

    func prepare<B: Backend>(on backend: B) throws -> (Selection) throws -> B.Matrix {
        var (x, generator) = input()
        // A learned query may have a width of its own.
        let queryInputs = query == .learned ? inputs + 3 : inputs
        func matrix(_ rows: Int, _ columns: Int, scale: Float = 1) -> HostMatrix {
            let values = generator.normals(rows * columns, deviation: scale / Float(columns).squareRoot())
            return HostMatrix(HostTensor(values, shape: [rows, columns]))
        }
        func vector(_ count: Int) -> HostTensor? {
            bias ? HostTensor(generator.normals(count, deviation: 0.1), shape: [count]) : nil
        }
        let source: PooledAttentionParameters.Query
        switch query {
        case .row: source = .row
        case .learned: source = .learned(HostTensor(generator.normals(queryInputs), shape: [queryInputs]))
        case .mean:
            let count = lengths.reduce(0, max) + 1
            source = .mean(positions: HostTensor(generator.normals(count * inputs), shape: [count, inputs]))
        }
        let output = LinearParameters(
            weight: matrix(outputs, heads * valueWidth), bias: vector(outputs).map { [$0] } ?? [],
            layerScale: layerScale
                ? HostTensor(generator.normals(outputs, deviation: 0.1, mean: 0.5), shape: [outputs]) : nil)
        let pool = try backend.prepare(
            PooledAttentionParameters(
                shape: AttentionShape(
                    heads: heads, keyWidth: keyWidth, valueWidth: valueWidth, scale: 1 / Float(keyWidth).squareRoot()),
                query: source, norm: NormSample(norm, columns: inputs, &generator).parameters,
                queryWeight: matrix(heads * keyWidth, queryInputs, scale: peak),
                keyWeight: matrix(heads * keyWidth, inputs), valueWeight: matrix(heads * valueWidth, inputs),
                queryBias: vector(heads * keyWidth), keyBias: vector(heads * keyWidth),
                valueBias: vector(heads * valueWidth), output: output))
        return { selection in
            let rows = packedRows(of: selection.items, lengths: lengths)
            let values = selection.slice(
                x, columns: inputs, rows: rows, firstItem: 0..<lengths[selection.items.lowerBound])
            let matrix = try backend.upload(values, rows: rows.count, columns: inputs)
            var segments: [Sequences.Segment] = []
            var queries: [Int] = []
            var start = 0
            for item in selection.items {
                let end = start + lengths[item]
                let keys = start..<(shortKeys ? max(start + 1, end - 1) : end)
                segments.append(.init(queries: shortKeys ? 0..<0 : start..<end, keys: keys))
                if query == .row { queries.append(start + queryRow(item)) }
                start = end
            }
            return try backend.pooledAttention(
                matrix, Sequences(segments: segments, rows: start), rows: queries, pool)
        }
    }

    /// As attention's, through one more sum of heads · valueWidth terms; with `.row`, the row stands in the result.
    func allowed(_ expected: [Float], _ precision: Precision) -> [Float] {
        let sum = Tolerance.sum(inputs + keyWidth + heads * valueWidth, precision)
        let bound = sum * 4 * (1 + peak)
        return expected.map { bound + sum * abs($0) + (query == .row ? 4 * Tolerance.elementwise(precision) : 0) }
    }
}

// MARK: Convolutional stems and towers

struct ConvolutionCase: ConformanceOperation {
    enum Residual: String { case none, before, after }
    var count: Int
    var height: Int
    var width: Int
    var inputs: Int
    var outputs: Int
    var kernel: Int
    var kernelWidth: Int? = nil
    var stride = 1
    var padding = 0
    var activation = Activation.relu
    /// Added before the activation, or after it.
    var residual = Residual.none
    var bias = true
    /// From 8-bit pictures by `pixels`, three channels.
    var isStem = false

    var name: String {
        "convolution pictures=\(count)x\(height)x\(width) inputs=\(inputs) outputs=\(outputs)"
            + " kernel=\(kernel)x\(kernelWidth ?? kernel) stride=\(stride) padding=\(padding)"
            + " activation=\(activation.rawValue) residual=\(residual.rawValue)" + (bias ? "" : " no-bias")
            + (isStem ? " stem" : "")
    }
    var itemCount: Int { count }
    var columns: Int { outputs }
    var canPoison: Bool { !isStem }

    private func shape(_ count: Int) -> ImageShape { ImageShape(count: count, height: height, width: width) }
    private func result(_ count: Int) -> ImageShape {
        shape(count).convolved(
            kernelHeight: kernel, kernelWidth: kernelWidth ?? kernel, stride: stride, padding: padding)
    }
    func rows(of items: Range<Int>) -> Range<Int> {
        let each = result(1).rows
        return (items.lowerBound * each)..<(items.upperBound * each)
    }

    func prepare<B: Backend>(on backend: B) throws -> (Selection) throws -> B.Matrix {
        var generator = Generator(name)
        let x = isStem ? [] : generator.normals(shape(count).rows * inputs)
        let bytes = isStem ? (0..<(shape(count).rows * 3)).map { _ in UInt8(truncatingIfNeeded: generator.next()) } : []
        let r = generator.normals(result(count).rows * outputs)
        let taps = inputs * kernel * (kernelWidth ?? kernel)
        let weight = generator.normals(outputs * taps, deviation: 1 / Float(taps).squareRoot())
        let convolution = try backend.prepare(
            ConvolutionParameters(
                weight: HostTensor(weight, shape: [outputs, inputs, kernel, kernelWidth ?? kernel]),
                bias: bias ? HostTensor(generator.normals(outputs, deviation: 0.1), shape: [outputs]) : nil,
                stride: stride, padding: padding, activation: activation, activatesAfterResidual: residual == .before))
        return { selection in
            let items = selection.items
            let each = height * width
            let matrix: B.Matrix
            if isStem {
                matrix = try bytes[(items.lowerBound * each * 3)..<(items.upperBound * each * 3)]
                    .withUnsafeBufferPointer {
                        try backend.pixels(
                            Pixels(.bytes($0), count: items.count, height: height, width: width), .openAI)
                    }
            } else {
                let source = (items.lowerBound * each)..<(items.upperBound * each)
                let values = selection.slice(x, columns: inputs, rows: source, firstItem: 0..<each)
                matrix = try backend.upload(values, rows: source.count, columns: inputs)
            }
            var added: B.Matrix?
            if residual != .none {
                let target = rows(of: items)
                let values = selection.slice(r, columns: outputs, rows: target, firstItem: rows(of: 0..<1))
                added = try backend.upload(values, rows: target.count, columns: outputs)
            }
            return try backend.convolution(matrix, shape(items.count), convolution, residual: added)
        }
    }

    /// A sum of inputs · kernel² terms of deviation 1 in all, plus bias and residual.
    func allowed(_ expected: [Float], _ precision: Precision) -> [Float] {
        let sum = Tolerance.sum(inputs * kernel * (kernelWidth ?? kernel), precision)
        return expected.map { sum * (2 + (residual == .none ? 0 : 2) + abs($0)) }
    }
}

struct AveragePoolCase: ConformanceOperation {
    var count: Int
    var height: Int
    var width: Int
    var columns: Int
    var size: Int

    var name: String { "averagePool pictures=\(count)x\(height)x\(width) columns=\(columns) size=\(size)" }
    var itemCount: Int { count }
    func rows(of items: Range<Int>) -> Range<Int> {
        let each = (height / size) * (width / size)
        return (items.lowerBound * each)..<(items.upperBound * each)
    }

    func prepare<B: Backend>(on backend: B) throws -> (Selection) throws -> B.Matrix {
        var generator = Generator(name)
        let each = height * width
        let x = generator.normals(count * each * columns)
        return { selection in
            let source = (selection.items.lowerBound * each)..<(selection.items.upperBound * each)
            let values = selection.slice(x, columns: columns, rows: source, firstItem: 0..<each)
            let matrix = try backend.upload(values, rows: source.count, columns: columns)
            return try backend.averagePool(
                matrix, ImageShape(count: selection.items.count, height: height, width: width), size: size)
        }
    }

    func allowed(_ expected: [Float], _ precision: Precision) -> [Float] {
        expected.map { Tolerance.elementwise(precision) * (1 + abs($0)) }
    }
}

// MARK: What stands at the front: pixels, patches, tokens

struct PixelsCase: ConformanceOperation {
    var count: Int
    var height: Int
    var width: Int
    var bytes = true

    var name: String { "pixels pictures=\(count)x\(height)x\(width) from=\(bytes ? "bytes" : "floats")" }
    var itemCount: Int { count }
    var columns: Int { 3 }
    var canPoison: Bool { false }
    func rows(of items: Range<Int>) -> Range<Int> {
        (items.lowerBound * height * width)..<(items.upperBound * height * width)
    }

    func prepare<B: Backend>(on backend: B) throws -> (Selection) throws -> B.Matrix {
        var generator = Generator(name)
        let pictures = PictureSample(count: count, height: height, width: width, bytes: bytes, &generator)
        return { selection in
            try pictures.withPixels(selection.items) { try backend.pixels($0, .openAI) }
        }
    }

    /// (p/255 - mean) / deviation, or p · a - b: both sides of the difference are at most 4.
    func allowed(_ expected: [Float], _ precision: Precision) -> [Float] {
        expected.map { Tolerance.elementwise(precision) * ((bytes ? 4 : 0) + abs($0)) }
    }
}

/// Random pictures, 8-bit or normalised.
struct PictureSample {
    let height: Int
    let width: Int
    private let bytes: [UInt8]
    private let floats: [Float]

    init(count: Int, height: Int, width: Int, bytes: Bool, _ generator: inout Generator) {
        self.height = height
        self.width = width
        let elements = count * height * width * 3
        self.bytes = bytes ? (0..<elements).map { _ in UInt8(truncatingIfNeeded: generator.next()) } : []
        floats = bytes ? [] : generator.normals(elements)
    }

    func withPixels<Result>(_ items: Range<Int>, _ body: (Pixels) throws -> Result) throws -> Result {
        let range = (items.lowerBound * height * width * 3)..<(items.upperBound * height * width * 3)
        if floats.isEmpty {
            return try bytes[range].withUnsafeBufferPointer {
                try body(Pixels(.bytes($0), count: items.count, height: height, width: width))
            }
        }
        return try floats[range].withUnsafeBufferPointer {
            try body(Pixels(.floats($0), count: items.count, height: height, width: width))
        }
    }
}

struct PatchesCase: ConformanceOperation {
    var count: Int
    var height: Int
    var width: Int
    var patch: Int
    var columns: Int
    var bytes = true
    var bias = false
    var classToken = true
    var positions = true
    var type = ElementType.float32

    var name: String {
        "patches pictures=\(count)x\(height)x\(width) patch=\(patch) width=\(columns) from=\(bytes ? "bytes" : "floats")"
            + (bias ? " bias" : "") + (classToken ? " class-token" : "") + (positions ? " positions" : "")
            + (type == .float32 ? "" : " weights=\(type.rawValue)")
    }
    var itemCount: Int { count }
    var canPoison: Bool { false }
    private var perPicture: Int { (height / patch) * (width / patch) + (classToken ? 1 : 0) }
    func rows(of items: Range<Int>) -> Range<Int> {
        (items.lowerBound * perPicture)..<(items.upperBound * perPicture)
    }

    func prepare<B: Backend>(on backend: B) throws -> (Selection) throws -> B.Matrix {
        var generator = Generator(name)
        let pictures = PictureSample(count: count, height: height, width: width, bytes: bytes, &generator)
        let taps = 3 * patch * patch
        func tensor(_ shape: [Int], deviation: Float) -> HostTensor {
            HostTensor(
                generator.normals(shape.reduce(1, *), deviation: deviation), shape: shape, as: type, aligned: false)
        }
        let patches = try backend.prepare(
            PatchParameters(
                weight: tensor([columns, 3, patch, patch], deviation: 1 / Float(taps).squareRoot()),
                bias: bias ? tensor([columns], deviation: 0.1) : nil,
                classToken: classToken ? tensor([columns], deviation: 1) : nil,
                positions: positions ? tensor([perPicture, columns], deviation: 1) : nil, normalization: .openAI))
        return { selection in
            try pictures.withPixels(selection.items) { try backend.patches($0, patches) }
        }
    }

    /// A sum over the patch. With mean and deviation folded into the weight, terms are p/255/deviation, up to 3.9.
    func allowed(_ expected: [Float], _ precision: Precision) -> [Float] {
        let sum = Tolerance.sum(3 * patch * patch, precision)
        return expected.map { sum * (4 + abs($0)) }
    }
}

struct TokensCase: ConformanceOperation {
    var lengths: [Int]
    var vocabulary: Int
    var columns: Int
    var positions = true
    var type = ElementType.float32

    var name: String {
        "tokens lengths=\(spelled(lengths)) vocabulary=\(vocabulary) width=\(columns)"
            + (positions ? " positions" : "") + (type == .float32 ? "" : " table=\(type.rawValue)")
    }
    var itemCount: Int { lengths.count }
    var canPoison: Bool { false }
    func rows(of items: Range<Int>) -> Range<Int> { packedRows(of: items, lengths: lengths) }

    func prepare<B: Backend>(on backend: B) throws -> (Selection) throws -> B.Matrix {
        var generator = Generator(name)
        let longest = lengths.reduce(0, max)
        let total = lengths.reduce(0, +)
        var ids = (0..<total).map { _ in Int32(generator.next() % UInt64(vocabulary)) }
        ids[0] = Int32(vocabulary - 1)
        // Any positions within the table, not only those in order.
        let places = lengths.flatMap { (0..<$0).map { Int32(($0 * 5 + 2) % longest) } }
        let table = generator.normals(vocabulary * columns)
        let tokens = try backend.prepare(
            TokenParameters(
                table: HostMatrix(HostTensor(table, shape: [vocabulary, columns], as: type, aligned: false)),
                positions: positions
                    ? HostTensor(
                        generator.normals(longest * columns), shape: [longest, columns], as: type, aligned: false)
                    : nil))
        return { selection in
            let rows = rows(of: selection.items)
            return try backend.tokens(Array(ids[rows]), positions: Array(places[rows]), tokens)
        }
    }

    /// A sum of two, each stored once.
    func allowed(_ expected: [Float], _ precision: Precision) -> [Float] {
        expected.map { Tolerance.elementwise(precision) * (1 + abs($0)) }
    }
}

// MARK: Rows

/// upload, selectRows, meanRows and normalizeRows.
struct RowsCase: ConformanceOperation {
    enum Operation: String { case upload, selectRows, meanRows, normalizeRows }
    var operation: Operation
    /// Rows of each sequence (`meanRows`), or ones.
    var lengths: [Int]
    var columns: Int
    /// The mean leaves out each sequence's first row, as a pool over patches leaves out the class token.
    var shortKeys = false

    var name: String {
        return operation.rawValue + (operation == .meanRows ? " lengths=\(spelled(lengths))" : " rows=\(lengths.count)")
            + " columns=\(columns)" + (shortKeys ? " short-keys" : "")
    }
    var itemCount: Int { lengths.count }
    /// Each row is selected thrice.
    private static let repeats = 3
    func rows(of items: Range<Int>) -> Range<Int> {
        let factor = operation == .selectRows ? Self.repeats : 1
        return (items.lowerBound * factor)..<(items.upperBound * factor)
    }

    func prepare<B: Backend>(on backend: B) throws -> (Selection) throws -> B.Matrix {
        var generator = Generator(name)
        var x = generator.normals(lengths.reduce(0, +) * columns)
        if operation == .normalizeRows {
            // Long rows whose squares are beyond a half, and a row of zeros.
            for row in 0..<lengths.count where row % 3 == 1 {
                for c in 0..<columns { x[row * columns + c] *= row % 2 == 0 ? 0 : 1000 }
            }
        }
        return { [x] selection in
            let rows = packedRows(of: selection.items, lengths: lengths)
            let values = selection.slice(
                x, columns: columns, rows: rows, firstItem: 0..<lengths[selection.items.lowerBound])
            let matrix = try backend.upload(values, rows: rows.count, columns: columns)
            switch operation {
            case .upload: return matrix
            case .selectRows:
                return try backend.selectRows(
                    matrix, (0..<(rows.count * Self.repeats)).map { $0 / Self.repeats })
            case .meanRows:
                let segments = Sequences(lengths: Array(lengths[selection.items])).segments.map { segment in
                    shortKeys && segment.keys.count > 1
                        ? .init(queries: 0..<0, keys: segment.keys.dropFirst()) : segment
                }
                return try backend.meanRows(matrix, Sequences(segments: segments, rows: rows.count))
            case .normalizeRows:
                try backend.normalizeRows(matrix)
                return matrix
            }
        }
    }

    /// Copies are exact, but for halves (one rounding: its deviation is 0.58 of its greatest); means and lengths are
    /// short sums.
    func allowed(_ expected: [Float], _ precision: Precision) -> [Float] {
        switch operation {
        case .upload, .selectRows:
            expected.map { precision == .fp32 ? 0 : 2 * Tolerance.rounding(precision) * abs($0) + 0x1p-24 }
        case .meanRows: expected.map { Tolerance.elementwise(precision) * (1 + abs($0)) }
        case .normalizeRows:
            expected.map { Tolerance.elementwise(precision) * (abs($0) + 0.1 / Float(columns).squareRoot()) }
        }
    }
}
