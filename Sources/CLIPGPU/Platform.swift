// The few C functions the library needs, under one import.

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// Files of more bytes are no pictures.
private let largestFile = 1 << 30

/// A whole file, read rather than mapped: a file that shrinks meanwhile must not end the process.
func readFile(_ path: String) throws(CLIPError) -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw CLIPError(.input, unreadable(path, errno: errno)) }
    defer { close(descriptor) }
    var status = stat()
    let size = fstat(descriptor, &status) == 0 && status.st_size > 0 ? Int(status.st_size) : 1 << 16
    var bytes: [UInt8] = []
    bytes.reserveCapacity(min(size, largestFile) + 1)
    var end = false
    while !end {
        guard max(size, bytes.count) <= largestFile else {
            throw CLIPError(.input, "\(path) has more than \(largestFile) bytes, which is no picture.")
        }
        let capacity = max(size + 1 - bytes.count, 1 << 16)
        var code: Int32 = 0
        let piece = [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
            var got = read(descriptor, buffer.baseAddress, capacity)
            while got < 0, errno == EINTR { got = read(descriptor, buffer.baseAddress, capacity) }
            if got < 0 { code = errno }
            count = max(0, got)
        }
        if code != 0 { throw CLIPError(.input, unreadable(path, errno: code)) }
        end = piece.isEmpty
        if bytes.isEmpty { bytes = piece } else { bytes += piece }
    }
    return bytes
}

func fileExists(_ path: String) -> Bool { access(path, F_OK) == 0 }

/// Where each line begins, and where the last one ends.
func lineStarts(_ bytes: UnsafeRawBufferPointer) -> [Int] {
    var starts = [0]
    guard let base = bytes.baseAddress else { return starts }
    var position = 0
    while position < bytes.count {
        let end = memchr(base + position, 0x0A, bytes.count - position).map { UnsafeRawPointer($0) - base }
        position = (end ?? bytes.count - 1) + 1
        starts.append(position)
    }
    return starts
}

/// The path from the root, without links; none where there is nothing.
func absolutePath(_ path: String) -> String? {
    guard let resolved = realpath(path, nil) else { return nil }
    defer { free(resolved) }
    return String(cString: resolved)
}

/// The sentence of a path that cannot be read. Strings are Unicode: what of a name is not UTF-8 stands in them as U+FFFD,
/// by which the file is not found.
func unreadable(_ path: String, errno code: Int32) -> String {
    let isLost = code == ENOENT && path.unicodeScalars.contains("\u{FFFD}")
    return "\(path) cannot be read: \(isLost ? "its name is not UTF-8; rename it" : describe(errno: code))."
}

func exponential(_ x: Double) -> Double { exp(x) }

/// The sentence of an `errno`: "No such file or directory".
func describe(errno code: Int32) -> String { String(cString: strerror(code)) }

/// Seconds on a clock that never goes back.
func monotonicSeconds() -> Double {
    let elapsed = ContinuousClock.now - monotonicStart
    return Double(elapsed.components.seconds) + Double(elapsed.components.attoseconds) * 1e-18
}

private let monotonicStart = ContinuousClock.now
