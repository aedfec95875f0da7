// What `benchmark` says of the work it measured.

import CLIPGPU
import Testing

@Test("A benchmark counts the products that the model needs, and knows the processor's peak") func benchmarkWork()
    throws
{
    let clip = try CLIP.load(device: .cpu)
    let image = try clip.benchmark(.image, batch: 2, seconds: 0.01)
    // 36 patches of 8x8, a class token, blocks of 128 and 512, of which the last computes one row (4 heads).
    let rows = 37
    let patches = 36 * 3 * 64 * 128
    let block = rows * (3 * 128 * 128 + 128 * 128 + 2 * 128 * 512) + rows * rows * 2 * 128
    let last = 4 * 128 * 128 + 2 * 4 * rows * 128 + 2 * 128 * 512
    #expect(image.gigaoperations == 2e-9 * Double(2 * (patches + 3 * block + last + 128 * 96)))
    let peak = try #require(image.peak)
    #expect(peak > 0.1 && peak.isFinite)
    #expect(try #require(image.shareOfPeak) == image.rate / peak)

    // Sentences are cut at their end: seven tokens under a causal mask need less than half of the context's 77.
    let short = try clip.benchmark(.text, batch: 1, length: 7, seconds: 0.01)
    let whole = try clip.benchmark(.text, batch: 1, seconds: 0.01)
    #expect(short.gigaoperations > 0 && short.gigaoperations < whole.gigaoperations / 2)
}

@Test("What sentences of a batch begin with is computed once, where that is worth it") func sharedBeginnings() throws {
    let clip = try CLIP.load(device: .cpu)
    func work(_ captions: [String]) throws -> Double {
        try clip.benchmark(captions: captions, batch: captions.count, seconds: 0.01).gigaoperations
    }
    let (circle, square, other) = (
        "a red circle and a small green square", "a red circle and a small green triangle",
        "two blue squares below one large yellow circle and beside three white stars and one cross"
    )
    let one = try work([circle])
    // Nothing but the start in common, less than a sixteenth of all.
    #expect(try abs(work([circle, other]) - one - work([other])) < 1e-9 * one)
    // All but the last word and the end.
    #expect(try work([circle, square]) < 1.5 * one)
    // All: of the second, only the attention and the last block's row.
    #expect(try work([circle, other, circle]) < 1.2 * one + work([other]))
}
