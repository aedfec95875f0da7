// The list of cases: which shapes, and why these.

import CLIPCompute

func makeCases() -> [ConformanceCase] {
    var cases: [ConformanceCase] = []
    func add(_ check: some ConformanceCheck, quick: Bool = false) {
        cases.append(ConformanceCase(check, quick ? .small : .large))
    }
    func addTiny(_ check: some ConformanceCheck) { cases.append(ConformanceCase(check, .tiny)) }
    /// Around the tiles of kernels and the padding of batches, and odd ones.
    let rowCounts = [1, 2, 3, 5, 17, 31, 33, 47, 48, 49, 63, 64, 65]

    // MARK: Each operation once, a tile and a little more
    for operation in [RowsCase.Operation.upload, .selectRows, .meanRows, .normalizeRows] {
        addTiny(RowsCase(operation: operation, lengths: operation == .meanRows ? [1, 4, 2] : ones(3), columns: 9))
    }
    addTiny(NormCase(rows: 7, columns: 20))
    addTiny(NormCase(rows: 3, columns: 70, style: .rms))
    addTiny(
        LinearCase(rows: 65, inputs: 9, outputs: 66, norm: .layer, activation: .quickGELU, residual: true))
    addTiny(
        LinearCase(rows: 3, inputs: 37, outputs: 5, norm: .rms, activation: .geluTanh, gated: true, layerScale: true))
    addTiny(LinearCase(rows: 1, inputs: 40, outputs: 33, bias: false))
    for mask in [AttentionCase.Mask.none, .causal, .hiding] {
        addTiny(AttentionCase(lengths: [5, 17, 1], inputs: 12, heads: 2, keyWidth: 7, valueWidth: 5, mask: mask))
    }
    addTiny(AttentionCase(lengths: [4, 9], inputs: 8, heads: 1, keyWidth: 8, valueWidth: 8, classToken: true))
    for query in [PooledAttentionCase.Query.row, .learned, .mean] {
        addTiny(
            PooledAttentionCase(
                query: query, lengths: [3, 10], inputs: 12, heads: 2, keyWidth: 5, valueWidth: 4, outputs: 12,
                norm: query == .row ? .layer : .none))
    }
    addTiny(
        ConvolutionCase(
            count: 2, height: 5, width: 4, inputs: 3, outputs: 5, kernel: 3, stride: 2, padding: 1, residual: .before))
    addTiny(ConvolutionCase(count: 2, height: 2, width: 3, inputs: 4, outputs: 5, kernel: 1, residual: .after))
    addTiny(AveragePoolCase(count: 2, height: 5, width: 4, columns: 3, size: 2))
    for bytes in [true, false] {
        addTiny(PixelsCase(count: 2, height: 3, width: 2, bytes: bytes))
        addTiny(PatchesCase(count: 2, height: 5, width: 7, patch: 2, columns: 6, bytes: bytes))
    }
    addTiny(TokensCase(lengths: [3, 1], vocabulary: 9, columns: 10))
    addTiny(ChainCase(lengths: [3, 1], blocks: 1))
    addTiny(LanesCase(rows: 3, columns: 8))

    // MARK: Rows
    for columns in [1, 7, 64, 768] {
        add(RowsCase(operation: .upload, lengths: ones(5), columns: columns), quick: columns == 7)
        add(RowsCase(operation: .selectRows, lengths: ones(33), columns: columns), quick: columns == 7)
        add(RowsCase(operation: .normalizeRows, lengths: ones(13), columns: columns), quick: columns == 64)
        add(RowsCase(operation: .meanRows, lengths: [1, 2, 49, 3, 17], columns: columns), quick: columns == 64)
    }
    add(RowsCase(operation: .normalizeRows, lengths: ones(2000), columns: 64))
    add(RowsCase(operation: .meanRows, lengths: [50, 2, 1, 17], columns: 96, shortKeys: true), quick: true)
    add(RowsCase(operation: .meanRows, lengths: [256, 256, 256], columns: 1024))

    // MARK: norm
    for columns in [1, 2, 7, 31, 64, 100, 512, 768, 1024, 1664] {
        for style in [NormSample.Style.layer, .layerNoBias, .rms, .rmsBias] where style == .layer || columns != 1 {
            add(NormCase(rows: 15, columns: columns, style: style), quick: columns == 100 || columns == 7)
        }
    }
    for rows in rowCounts { add(NormCase(rows: rows, columns: 48)) }
    add(NormCase(rows: 2000, columns: 64))

    // MARK: linear
    for rows in rowCounts {
        add(LinearCase(rows: rows, inputs: 96, outputs: 80, norm: .layer), quick: [1, 5, 49].contains(rows))
        add(LinearCase(rows: rows, inputs: 64, outputs: 64, activation: .quickGELU, residual: true))
    }
    for (inputs, outputs) in [(1, 1), (1, 17), (3, 5), (7, 1), (31, 33), (65, 63), (100, 130), (257, 20)] {
        add(LinearCase(rows: 9, inputs: inputs, outputs: outputs), quick: inputs == 31)
        add(LinearCase(rows: 9, inputs: inputs, outputs: outputs, norm: .rms, gated: true, bias: false))
    }
    for activation in Activation.allCases {
        for gated in [false, true] {
            for residual in [false, true] {
                add(
                    LinearCase(
                        rows: 17, inputs: 72, outputs: 56, norm: .layer, activation: activation, gated: gated,
                        layerScale: residual, residual: residual), quick: gated == residual)
            }
            add(LinearCase(rows: 6, inputs: 40, outputs: 48, activation: activation, gated: gated, layerScale: true))
        }
    }
    for style in [NormSample.Style.none, .layer, .layerNoBias, .rms, .rmsBias] {
        for bias in [false, true] {
            add(LinearCase(rows: 21, inputs: 128, outputs: 96, norm: style, bias: bias, residual: bias))
        }
        add(LinearCase(rows: 21, inputs: 128, outputs: 96, norm: style, extreme: style != .none), quick: true)
        if style != .none {
            add(
                LinearCase(rows: 35, inputs: 256, outputs: 64, norm: style, residual: true, outliers: true), quick: true
            )
        }
    }
    for type in ElementType.allCases {
        for transposed in [false, true] {
            add(
                LinearCase(
                    rows: 11, inputs: 60, outputs: 90, norm: .layer, type: type, parts: 3, transposed: transposed,
                    aligned: false), quick: transposed)
        }
        add(LinearCase(rows: 11, inputs: 60, outputs: 90, gated: true, type: type, parts: 2, aligned: false))
    }
    add(LinearCase(rows: 2000, inputs: 64, outputs: 64, norm: .layer, activation: .gelu, residual: true))
    // CLIP's own: ViT-B/32, text, ViT-L/14 and its 336 pixels, ViT-B/16; few, since doubles are slow.
    add(LinearCase(rows: 50, inputs: 768, outputs: 3072, norm: .layer, activation: .quickGELU))
    add(LinearCase(rows: 50, inputs: 3072, outputs: 768, residual: true))
    add(LinearCase(rows: 77, inputs: 512, outputs: 2048, norm: .layer, activation: .quickGELU))
    add(LinearCase(rows: 197, inputs: 768, outputs: 768, norm: .layer, activation: .gelu, residual: true))
    add(LinearCase(rows: 257, inputs: 1024, outputs: 1024, residual: true))
    add(LinearCase(rows: 577, inputs: 1024, outputs: 256, norm: .layer, bias: false, residual: true))
    add(LinearCase(rows: 3, inputs: 768, outputs: 512, bias: false, transposed: true))
    add(LinearCase(rows: 40, inputs: 768, outputs: 1024, norm: .rms, activation: .geluTanh, gated: true, bias: false))

    // MARK: queryKeyValue and attention
    for length in rowCounts {
        add(
            AttentionCase(lengths: [length, length, length], inputs: 48, heads: 2, keyWidth: 16, valueWidth: 16),
            quick: [1, 17, 49].contains(length))
        add(
            AttentionCase(lengths: [length], inputs: 24, heads: 3, keyWidth: 12, valueWidth: 12, mask: .causal),
            quick: [1, 33].contains(length))
    }
    for width in [7, 12, 32, 64, 80, 88, 104] {
        for mask in [AttentionCase.Mask.none, .causal, .hiding] {
            add(
                AttentionCase(
                    lengths: [10, 50, 3], inputs: 2 * width, heads: 2, keyWidth: width, valueWidth: width, mask: mask,
                    norm: .layer), quick: width == 7 || width == 88)
        }
    }
    /// Sentences of a batch, cut at their ends.
    let sentences = [7, 77, 1, 12, 2, 31, 76, 16, 5, 64]
    for mask in [AttentionCase.Mask.none, .causal, .bias, .hiding] {
        add(
            AttentionCase(lengths: sentences, inputs: 64, heads: 2, keyWidth: 32, valueWidth: 32, mask: mask),
            quick: mask == .causal)
        add(
            AttentionCase(
                lengths: [5, 40, 17], inputs: 64, heads: 4, keyWidth: 24, valueWidth: 10, mask: mask, norm: .rms,
                bias: false), quick: mask == .bias)
        add(
            AttentionCase(
                lengths: [49, 1, 20], inputs: 96, heads: 2, keyWidth: 64, valueWidth: 64, mask: mask, peak: 27),
            quick: mask != .bias)
    }
    for (heads, keyWidth, valueWidth) in [(1, 40, 40), (3, 20, 20), (5, 8, 24), (12, 4, 1)] {
        add(
            AttentionCase(
                lengths: [9, 26], inputs: 50, heads: heads, keyWidth: keyWidth, valueWidth: valueWidth, mask: .causal,
                norm: .layer))
    }
    for mask in [AttentionCase.Mask.none, .causal] {
        add(
            AttentionCase(
                lengths: [6, 78, 2, 33], inputs: 64, heads: 4, keyWidth: 16, valueWidth: 16, mask: mask,
                classToken: true), quick: true)
    }
    for type in ElementType.allCases {
        add(
            AttentionCase(
                lengths: [5, 8], inputs: 40, heads: 2, keyWidth: 20, valueWidth: 20, norm: .layer, type: type, parts: 3,
                transposed: type == .float16 || type == .float64),
            quick: type == .float16)
    }
    add(
        AttentionCase(
            lengths: [5, 40, 1, 17], inputs: 48, heads: 2, keyWidth: 24, valueWidth: 10, mask: .causal, repeats: true),
        quick: true)
    add(
        AttentionCase(
            lengths: [50, 77], inputs: 64, heads: 2, keyWidth: 64, valueWidth: 64, mask: .causal, norm: .layer,
            repeats: true), quick: true)
    // Whole tiles of keys and queries, and what may be left behind them.
    add(AttentionCase(lengths: [80, 3, 150], inputs: 32, heads: 2, keyWidth: 64, valueWidth: 64), quick: true)
    add(AttentionCase(lengths: [50, 50], inputs: 768, heads: 12, keyWidth: 64, valueWidth: 64, norm: .layer))
    add(AttentionCase(lengths: [77], inputs: 512, heads: 8, keyWidth: 64, valueWidth: 64, mask: .causal, norm: .layer))
    add(AttentionCase(lengths: [197], inputs: 192, heads: 3, keyWidth: 64, valueWidth: 64))
    add(AttentionCase(lengths: [577, 257], inputs: 64, heads: 2, keyWidth: 64, valueWidth: 64, norm: .layer))
    add(AttentionCase(lengths: [Int](repeating: 20, count: 100), inputs: 32, heads: 2, keyWidth: 16, valueWidth: 16))

    // MARK: pooledAttention
    for query in [PooledAttentionCase.Query.row, .learned, .mean] {
        let width = query == .mean ? 0 : 8
        for lengths in [[1], [50], [49, 49, 49], sentences] {
            add(
                PooledAttentionCase(
                    query: query, lengths: lengths, inputs: 64, heads: 4, keyWidth: 16, valueWidth: 16, outputs: 64,
                    norm: query == .mean ? .none : .layer), quick: lengths.count == 3)
        }
        for bias in [false, true] {
            add(
                PooledAttentionCase(
                    query: query, lengths: [3, 40, 17], inputs: 48, heads: 3, keyWidth: 12, valueWidth: 16 + width,
                    outputs: query == .row ? 48 : 37, norm: query == .mean ? .none : .rms, bias: bias,
                    layerScale: bias), quick: true)
        }
        add(
            PooledAttentionCase(
                query: query, lengths: [26, 4, 2], inputs: 60, heads: 2, keyWidth: 104, valueWidth: 7, outputs: 60,
                shortKeys: true))
        add(
            PooledAttentionCase(
                query: query, lengths: [50, 65], inputs: 96, heads: 2, keyWidth: 64, valueWidth: 64, outputs: 96,
                peak: 27))
        add(
            PooledAttentionCase(
                query: query, lengths: [50, 50], inputs: 512, heads: 8, keyWidth: 64, valueWidth: 64, outputs: 512,
                norm: query == .mean ? .none : .layer))
    }

    // MARK: Convolutional stems and towers
    for (kernel, stride, padding) in [(1, 1, 0), (3, 1, 1), (3, 2, 1), (3, 1, 0), (1, 2, 0), (3, 2, 0)] {
        for residual in [ConvolutionCase.Residual.none, .before, .after] {
            add(
                ConvolutionCase(
                    count: 3, height: 9, width: 7, inputs: 13, outputs: 18, kernel: kernel, stride: stride,
                    padding: padding, residual: residual), quick: kernel == 3 && padding == 1)
        }
    }
    for activation in Activation.allCases {
        add(
            ConvolutionCase(
                count: 2, height: 5, width: 6, inputs: 16, outputs: 12, kernel: 3, padding: 1, activation: activation,
                residual: .before, bias: false), quick: true)
    }
    add(ConvolutionCase(count: 2, height: 1, width: 1, inputs: 8, outputs: 9, kernel: 3, padding: 1))
    add(ConvolutionCase(count: 2, height: 8, width: 10, inputs: 5, outputs: 6, kernel: 2, kernelWidth: 4))
    add(ConvolutionCase(count: 6, height: 3, width: 5, inputs: 4, outputs: 66, kernel: 5, stride: 3, padding: 2))
    add(ConvolutionCase(count: 2, height: 14, width: 14, inputs: 64, outputs: 64, kernel: 3, padding: 1))
    add(
        ConvolutionCase(
            count: 3, height: 27, width: 24, inputs: 24, outputs: 40, kernel: 3, padding: 1, residual: .after))
    add(
        ConvolutionCase(
            count: 2, height: 33, width: 30, inputs: 3, outputs: 32, kernel: 3, stride: 2, padding: 1, isStem: true),
        quick: true)
    for size in [2, 3, 4] {
        add(AveragePoolCase(count: 3, height: 11, width: 9, columns: 17, size: size), quick: size == 2)
    }
    add(AveragePoolCase(count: 7, height: 2, width: 2, columns: 256, size: 2))

    // MARK: What stands at the front
    for bytes in [true, false] {
        add(PixelsCase(count: 3, height: 5, width: 8, bytes: bytes), quick: true)
        add(PatchesCase(count: 3, height: 32, width: 32, patch: 8, columns: 48, bytes: bytes), quick: true)
        add(PatchesCase(count: 2, height: 30, width: 45, patch: 14, columns: 20, bytes: bytes))
        add(
            PatchesCase(
                count: 6, height: 17, width: 11, patch: 5, columns: 31, bytes: bytes, bias: true, classToken: false),
            quick: true)
        add(PatchesCase(count: 1, height: 16, width: 16, patch: 16, columns: 64, bytes: bytes, positions: false))
        add(
            PatchesCase(
                count: 2, height: 8, width: 4, patch: 2, columns: 9, bytes: bytes, bias: true, classToken: false,
                positions: false))
        add(PatchesCase(count: 1, height: 224, width: 224, patch: 32, columns: 256, bytes: bytes))
    }
    for type in ElementType.allCases {
        add(PatchesCase(count: 2, height: 12, width: 12, patch: 4, columns: 24, bias: true, type: type))
        add(TokensCase(lengths: [3, 9, 1], vocabulary: 50, columns: 33, type: type), quick: type == .float16)
        add(TokensCase(lengths: [4, 4], vocabulary: 20, columns: 16, positions: false, type: type))
    }
    add(TokensCase(lengths: sentences, vocabulary: 1000, columns: 512, type: .float16))

    // MARK: Passes
    add(ChainCase(lengths: [5, 1, 17, 9, 2, 33], blocks: 2), quick: true)
    add(ChainCase(lengths: [17, 3, 48, 12], blocks: 8))
    add(LanesCase(rows: 5, columns: 64), quick: true)
    add(LanesCase(rows: 333, columns: 96))
    return cases
}

private func ones(_ count: Int) -> [Int] { [Int](repeating: 1, count: count) }
