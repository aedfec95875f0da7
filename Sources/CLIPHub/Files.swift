// The few operations on files that caches are made of.

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

enum Files {
    /// Whether a path leads to something; a link that leads nowhere does not.
    static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// Bytes of a file; none where there is no such file.
    static func size(_ path: String) -> Int? {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG ? Int(status.st_size) : nil
    }

    /// The text of a small file, such as a reference or a token; none where there is none.
    static func text(_ path: String) -> String? {
        guard let file = fopen(path, "r") else { return nil }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        let count = fread(&bytes, 1, bytes.count, file)
        return String(validating: bytes[..<count], as: UTF8.self)
    }

    /// A folder and those above it.
    static func makeFolder(_ path: String) throws {
        if exists(path) { return }
        if let slash = path.lastIndex(of: "/"), slash != path.startIndex { try makeFolder(String(path[..<slash])) }
        if mkdir(path, 0o777) != 0, errno != EEXIST { throw failure(path) }
    }

    /// Writes a small file so that no reader sees a part of it.
    static func write(_ text: String, to path: String) throws {
        let temporary = "\(path).\(getpid()).tmp"
        guard let file = fopen(temporary, "w") else { throw failure(path) }
        let written = fputs(text, file) >= 0
        guard fclose(file) == 0, written, rename(temporary, path) == 0 else {
            let error = failure(path)
            unlink(temporary)
            throw error
        }
    }

    /// Makes a link, in the place of what is there.
    static func link(_ path: String, to target: String) throws {
        let temporary = "\(path).\(getpid()).tmp"
        unlink(temporary)
        guard symlink(target, temporary) == 0, rename(temporary, path) == 0 else {
            let error = failure(path)
            unlink(temporary)
            throw error
        }
    }

    /// Names in a folder, in no order.
    static func names(in folder: String) -> [String] {
        guard let stream = opendir(folder) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names
    }

    /// Before anything else changes `errno`.
    static func failure(_ path: String) -> HubError {
        .cache(
            "\(path) cannot be written: \(String(cString: strerror(errno))); HF_HOME names another folder for models "
                + "of the hub")
    }
}

/// A lock that processes hold on a file, as huggingface_hub holds it (flock); let go with the value.
final class FileLock {
    private let descriptor: Int32

    /// Waits for whoever holds it; `waiting` is told every tenth of a second, and may throw.
    init(_ path: String, waiting: () throws -> Void) throws {
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o664)
        if descriptor < 0 { throw Files.failure(path) }
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            let code = errno
            if code == EWOULDBLOCK {
                do { try waiting() } catch {
                    close(descriptor)
                    throw error
                }
                usleep(100_000)
            } else if code != EINTR {
                // A file system without locks: what is fetched twice is still verified.
                break
            }
        }
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }
}
