// Files as memory: mapped, read-only, let go page by page.

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// Read-only bytes that stay where they are while the object lives: a mapped file, or memory of another kind.
package protocol TensorMemory: AnyObject, Sendable {
    /// What to call it in an error: a path.
    var name: String { get }
    /// Valid while the object lives, which a mere use of the pointer does not ensure: see `withBytes`.
    var bytes: UnsafeRawBufferPointer { get }
    /// The bytes of this range will be read soon.
    func willNeed(_ range: Range<Int>)
    /// The bytes of this range are not needed soon. They stay readable.
    func letGo(_ range: Range<Int>)
}

extension TensorMemory {
    /// Lends the bytes. The compiler may release an object after its last mention, so reading must happen in here.
    package func withBytes<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        defer { withExtendedLifetime(self) {} }
        return try body(bytes)
    }
}

/// A whole file, mapped read-only; unmapped when the last reference goes.
///
/// A file that another process shortens while it is mapped ends this process when the missing part is read: a limit
/// of mapped memory, not checked for.
package final class MappedFile: TensorMemory {
    package let name: String
    // An address as a number, since pointers are not `Sendable`; the memory is never written to.
    private let address: UInt
    private let count: Int

    package init(path: String) throws(CheckpointError) {
        name = path
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        if descriptor < 0 { throw CheckpointError("\(path) cannot be opened: \(systemMessage())") }
        defer { close(descriptor) }
        var status = stat()
        if fstat(descriptor, &status) != 0 { throw CheckpointError("\(path) cannot be read: \(systemMessage())") }
        switch status.st_mode & S_IFMT {
        case S_IFREG: break
        case S_IFDIR: throw CheckpointError("\(path) is a folder where a file is expected")
        default: throw CheckpointError("\(path) is not a regular file, and only those can be mapped")
        }
        count = Int(status.st_size)
        if count == 0 {
            address = 0
            return
        }
        guard let base = mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0), base != MAP_FAILED else {
            throw CheckpointError("\(path) cannot be mapped: \(systemMessage())")
        }
        address = UInt(bitPattern: base)
    }

    deinit {
        if address != 0 { munmap(UnsafeMutableRawPointer(bitPattern: address), count) }
    }

    package var bytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: address), count: count)
    }

    package func willNeed(_ range: Range<Int>) { advise(range, MADV_WILLNEED, roundsInward: false) }

    /// The pages leave this process; the system's cache still has them, so reading them again is only slower.
    package func letGo(_ range: Range<Int>) { advise(range, MADV_DONTNEED, roundsInward: true) }

    private func advise(_ range: Range<Int>, _ advice: Int32, roundsInward: Bool) {
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        let range = range.clamped(to: 0..<count)
        let start = (roundsInward ? range.lowerBound + page - 1 : range.lowerBound) / page * page
        let end = roundsInward && range.upperBound != count ? range.upperBound / page * page : range.upperBound
        if start < end { madvise(UnsafeMutableRawPointer(bitPattern: address + UInt(start)), end - start, advice) }
    }
}

/// Bytes that live as long as the program: data linked into it.
package final class StaticMemory: TensorMemory {
    package let name: String
    private let address: UInt
    private let count: Int

    /// The caller guarantees that `bytes` is never freed nor written to.
    package init(_ bytes: UnsafeRawBufferPointer, name: String) {
        self.name = name
        address = UInt(bitPattern: bytes.baseAddress)
        count = bytes.count
    }

    package var bytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: address), count: count)
    }

    package func willNeed(_ range: Range<Int>) {}
    package func letGo(_ range: Range<Int>) {}
}

/// The system's words for the last error.
func systemMessage() -> String { String(cString: strerror(errno)) }

extension MappedFile {
    /// Whether there is anything of this name.
    package static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }
}
