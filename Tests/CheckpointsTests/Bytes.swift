import Checkpoints
// What the tests of file formats share: memory with given bytes, safetensors built by hand, a random source.
import Foundation
import Testing

/// Bytes in memory, as if a file were mapped; behind the last begins a page that cannot be read, so that a reader which
/// runs over the end does not go unnoticed.
final class TestMemory: TensorMemory {
    let name = "test.safetensors"
    private let pages: UInt
    private let size: Int
    private let count: Int

    init(_ content: [UInt8]) {
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        count = content.count
        size = (count + page - 1) / page * page + page
        let base = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        pages = UInt(bitPattern: base)
        guard let base, base != MAP_FAILED else { preconditionFailure("no memory for a test") }
        (base + (size - page - count)).copyMemory(from: content, byteCount: count)
        mprotect(base + (size - page), page, PROT_NONE)
    }

    deinit { munmap(UnsafeMutableRawPointer(bitPattern: pages), size) }

    private var address: UInt { pages + UInt(size - Int(sysconf(Int32(_SC_PAGESIZE))) - count) }

    var bytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: address), count: count)
    }
    func willNeed(_ range: Range<Int>) {}
    func letGo(_ range: Range<Int>) {}
}

/// A file with this header, whatever it says, and data of so many bytes.
func safetensors(_ header: String, data: Int = 0) -> [UInt8] {
    withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Array($0) } + Array(header.utf8)
        + (0..<data).map { UInt8(truncatingIfNeeded: $0) }
}

func bytes(_ text: String, _ body: (UnsafeRawBufferPointer) throws -> Void) rethrows {
    try Array(text.utf8).withUnsafeBytes(body)
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers every time.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

/// The sentence of the error that `body` throws.
func message(_ body: () throws -> Void) -> String? {
    do {
        try body()
        return nil
    } catch {
        return "\(error)"
    }
}

extension StoredTensor {
    /// A copy of the bytes.
    var content: [UInt8] { withBytes { Array($0) } }

    /// The elements of a float32 tensor.
    var floats: [Float] {
        withBytes { bytes in (0..<count).map { bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) } }
    }
}
