// The stack of blocks that both towers share: all rows through all but the last block, the wanted rows through it.
import CLIPCompute
import Checkpoints

struct Transformer<B: Backend> {
    private let blocks: [TransformerBlock<B>]
    private let last: PooledTransformerBlock<B>
    private let width: Int

    /// `blocks` is not empty.
    init(_ blocks: [BlockParameters], width: Int, _ backend: B) throws {
        self.width = width
        self.blocks = try blocks.dropLast().map { block in
            try preparing(block.stored) { try TransformerBlock(block, backend) }
        }
        let block = blocks[blocks.count - 1]
        last = try preparing(block.stored) { try PooledTransformerBlock(block, backend) }
    }

    /// `[sequences, width]`: the last block's result for one row of each sequence.
    func callAsFunction(
        _ input: B.Matrix, _ sequences: Sequences, mask: AttentionMask<B.AttentionBias>, rows: [Int], _ backend: B,
        _ observer: Observer?
    ) throws -> B.Matrix {
        var x = input
        for (index, block) in blocks.enumerated() {
            try block(x, sequences, mask: mask, backend)
            try observer?.observe("block \(index)", &x, columns: width, backend)
        }
        var pooled = try last(x, sequences, rows: rows, backend)
        try observer?.observe("block \(blocks.count)", &pooled, columns: width, backend)
        return pooled
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
