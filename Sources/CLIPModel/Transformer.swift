// The stack of blocks that all towers share: all rows through all but the last block, the wanted rows through it.
import CLIPCompute
import Checkpoints

struct Transformer<B: Backend> {
    private let blocks: [TransformerBlock<B>]
    /// The last block, where one row of it is wanted.
    private let last: PooledTransformerBlock<B>?
    private let width: Int

    /// `blocks` is not empty. With `wantsAllRows`, the last block is as the others.
    init(_ blocks: [BlockParameters], width: Int, wantsAllRows: Bool = false, _ backend: B) throws {
        self.width = width
        self.blocks = try (wantsAllRows ? blocks[...] : blocks.dropLast()).map { block in
            try preparing(block.stored) { try TransformerBlock(block, backend) }
        }
        let block = blocks[blocks.count - 1]
        last = wantsAllRows ? nil : try preparing(block.stored) { try PooledTransformerBlock(block, backend) }
    }

    /// The last block's result: `[sequences, width]` where `pooled` names one row of each sequence (its query) and what
    /// that row sees (its keys); all rows, where those are wanted. With `shared`, `input` holds the rows that are to be
    /// computed; it goes with `pooled` only.
    func callAsFunction(
        _ input: B.Matrix, _ sequences: Sequences, mask: AttentionMask<B.AttentionBias>, shared: SharedRows? = nil,
        pooled: Sequences, _ backend: B, _ observer: Observer?
    ) throws -> B.Matrix {
        var x = input
        for (index, block) in blocks.enumerated() {
            try block(x, sequences, mask: mask, shared: shared, backend)
            try observer?.observe("block \(index)", &x, columns: width, backend)
        }
        guard let last else { return x }
        if let shared { x = try backend.selectRows(x, shared.places) }
        var rows = try last(x, pooled, backend)
        try observer?.observe("block \(blocks.count)", &rows, columns: width, backend)
        return rows
    }
}

/// Checks weights, hands them over, and lets their pages go: the file passes through memory once.
func preparing<Prepared>(
    _ stored: [StoredTensor], _ prepare: () throws -> Prepared
) throws -> Prepared {
    let extents = extents(of: stored)
    // A file that is not in memory yet is read in long pieces instead of page by page.
    for extent in extents { extent.memory.willNeed(extent.range) }
    defer { for extent in extents { extent.memory.letGo(extent.range) } }
    try requireFinite(stored)
    return try prepare()
}

/// Sees the activations of a pass by name: for tests that must say which block differs first.
///
/// A pass is ended to read a matrix back, and another begun with the same rows; that costs time and nothing else.
package struct Observer {
    private let see: (String, [Float]) -> Void

    package init(_ see: @escaping (_ name: String, _ rows: [Float]) -> Void) { self.see = see }

    func observe<B: Backend>(_ name: String, _ x: inout B.Matrix, columns: Int, _ backend: B) throws {
        let values = try backend.wait(backend.submit(x))
        see(name, values)
        try backend.begin()
        x = try backend.upload(values, rows: values.count / columns, columns: columns)
    }
}
