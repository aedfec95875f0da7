// Files that appear under their name only when they are whole.

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// Writes beside the wanted name and renames at the end; what was not committed is removed.
///
/// Where the name belongs to a pipe or a device, the bytes are kept in an unnamed temporary file and copied there at
/// the end, so that formats whose header is known last can be written to anything.
package final class OutputFile {
    package let path: String
    private let descriptor: Int32
    /// The name in the meantime; none where the bytes are copied at the end.
    private let temporaryPath: String?
    private let targetPath: String
    private var isOpen = true

    package init(path: String) throws(CheckpointError) {
        self.path = path
        var status = stat()
        let exists = stat(path, &status) == 0
        // What a shell opened as standard output, perhaps a file, is continued and never replaced.
        let isStandardOutput = path == "/dev/stdout"
        if exists, status.st_mode & S_IFMT == S_IFDIR {
            throw CheckpointError("\(path) cannot be written: it is a folder")
        }
        if isStandardOutput || exists && status.st_mode & S_IFMT != S_IFREG {
            targetPath = path
            temporaryPath = nil
            guard let file = tmpfile() else { throw Self.failure(path) }
            defer { fclose(file) }
            descriptor = dup(fileno(file))
            if descriptor < 0 { throw Self.failure(path) }
            return
        }
        // A link stays a link: what it points to is replaced.
        if exists, let resolved = realpath(path, nil) {
            targetPath = String(cString: resolved)
            free(resolved)
        } else {
            targetPath = path
        }
        if exists, access(targetPath, W_OK) != 0 { throw Self.failure(path) }
        // The name may be taken: by what a killed process left, or, in another container, one with the same number has.
        var temporary = targetPath + ".part-\(getpid())"
        var attempts = 1
        // Others may read it as the process's mask allows, as if it had been created in the plain way.
        var opened = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
        while opened < 0, errno == EEXIST, attempts < 1000 {
            attempts += 1
            temporary = targetPath + ".part-\(getpid())-\(attempts)"
            opened = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
        }
        descriptor = opened
        if descriptor < 0 { throw Self.failure(path) }
        if exists { fchmod(descriptor, status.st_mode & 0o777) }
        temporaryPath = temporary
    }

    deinit {
        guard isOpen else { return }
        close(descriptor)
        if let temporaryPath { unlink(temporaryPath) }
    }

    private static func failure(_ path: String) -> CheckpointError {
        let isClosedPipe = errno == EPIPE
        var error = CheckpointError("\(path) cannot be written: \(systemMessage())")
        error.isClosedPipe = isClosedPipe
        return error
    }

    /// Appends bytes.
    package func write(_ bytes: UnsafeRawBufferPointer) throws(CheckpointError) {
        try Self.write(bytes, to: descriptor, path)
    }

    /// Appends the elements as they lie in memory.
    package func write<Element: BitwiseCopyable>(_ elements: [Element]) throws(CheckpointError) {
        try elements.withUnsafeBufferPointer { (elements) throws(CheckpointError) in
            try write(UnsafeRawBufferPointer(elements))
        }
    }

    /// Writes over what is there, without moving the end.
    func overwrite(_ bytes: [UInt8], at offset: Int) throws(CheckpointError) {
        var done = 0
        while done < bytes.count {
            let count = bytes[done...].withUnsafeBytes {
                pwrite(descriptor, $0.baseAddress, $0.count, off_t(offset + done))
            }
            if count < 0 && errno == EINTR { continue }
            if count <= 0 { throw Self.failure(path) }
            done += count
        }
    }

    /// Gives the file its name. Nothing can be written afterwards.
    package func commit() throws(CheckpointError) {
        precondition(isOpen, "an output file is committed once")
        guard let temporaryPath else { return try copyToTarget() }
        isOpen = false
        guard close(descriptor) == 0, rename(temporaryPath, targetPath) == 0 else {
            let error = Self.failure(path)
            unlink(temporaryPath)
            throw error
        }
    }

    private func copyToTarget() throws(CheckpointError) {
        defer {
            close(descriptor)
            isOpen = false
        }
        let target = path == "/dev/stdout" ? dup(1) : open(targetPath, O_WRONLY | O_CLOEXEC)
        if target < 0 { throw Self.failure(path) }
        defer { close(target) }
        var offset = 0
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        while true {
            let count = buffer.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, off_t(offset)) }
            if count < 0 && errno == EINTR { continue }
            if count < 0 { throw Self.failure(path) }
            if count == 0 { return }
            try Self.write(buffer[..<count], to: target, path)
            offset += count
        }
    }

    private static func write(_ bytes: ArraySlice<UInt8>, to descriptor: Int32, _ path: String) throws(CheckpointError)
    {
        try bytes.withUnsafeBufferPointer { (bytes) throws(CheckpointError) in
            try write(UnsafeRawBufferPointer(bytes), to: descriptor, path)
        }
    }

    private static func write(
        _ bytes: UnsafeRawBufferPointer, to descriptor: Int32, _ path: String
    ) throws(CheckpointError) {
        var rest = bytes
        while let base = rest.baseAddress, !rest.isEmpty {
            #if canImport(Darwin)
            let count = Darwin.write(descriptor, base, rest.count)
            #elseif canImport(Musl)
            let count = Musl.write(descriptor, base, rest.count)
            #else
            let count = Glibc.write(descriptor, base, rest.count)
            #endif
            if count < 0 && errno == EINTR { continue }
            if count <= 0 { throw failure(path) }
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
    }
}

/// A file of float32 rows of equal length, whose number is known only at the end.
package protocol RowWriter: AnyObject {
    /// Appends whole rows.
    func append(_ rows: [Float]) throws(CheckpointError)
    /// Writes the number of rows and gives the file its name.
    func commit() throws(CheckpointError)
}
