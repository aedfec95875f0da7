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

    /// Nobody else's name beside a file, another thread's neither.
    static func temporaryName(_ path: String, _ ending: String = "tmp") -> String {
        "\(path).\(String(UInt64.random(in: 0...UInt64.max), radix: 36)).\(ending)"
    }

    /// Writes a small file so that no reader sees a part of it.
    static func write(_ text: String, to path: String) throws {
        let temporary = temporaryName(path)
        guard let file = fopen(temporary, "w") else { throw failure(path) }
        let written = fputs(text, file) >= 0
        guard fclose(file) == 0, written, rename(temporary, path) == 0 else {
            let error = failure(path)
            unlink(temporary)
            throw error
        }
    }

    /// Makes a link to a file, in the place of what is there. Where the file system has no links (exFAT, some network
    /// mounts), the file itself goes there, as huggingface_hub does it.
    ///
    /// - Parameters:
    ///   - target: what the link says; none where no links are wanted.
    ///   - moves: whether nobody else refers to the file yet, so that it need not be copied.
    static func place(_ file: String, at path: String, linking target: String?, moves: Bool) throws {
        let temporary = temporaryName(path)
        if let target, symlink(target, temporary) == 0 {
            if rename(temporary, path) == 0 { return }
        } else if moves {
            if rename(file, path) == 0 { return }
        } else if copy(file, to: temporary), rename(temporary, path) == 0 {
            return
        }
        let error = failure(path)
        unlink(temporary)
        throw error
    }

    /// Copies a file's bytes; false, with `errno` set, where that fails.
    private static func copy(_ path: String, to destination: String) -> Bool {
        guard let source = fopen(path, "r") else { return false }
        defer { fclose(source) }
        guard let target = fopen(destination, "w") else { return false }
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        var isSound = true
        while isSound {
            let count = fread(&buffer, 1, buffer.count, source)
            if count == 0 { break }
            isSound = fwrite(buffer, 1, count, target) == count
        }
        isSound =
            isSound && ferror(source) == 0 && fflush(target) == 0 && (fsync(fileno(target)) == 0 || errno == EINVAL)
        return fclose(target) == 0 && isSound
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
    /// Whether the file system has locks.
    let isHeld: Bool
    private let descriptor: Int32

    /// Waits for whoever holds it; `waiting` is told every tenth of a second, and may throw.
    init(_ path: String, _ settings: HubSettings, waiting: () throws -> Void) throws {
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o664)
        if descriptor < 0 { throw Files.failure(path) }
        var isHeld = true
        while settings.lock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            let code = errno
            if code == EWOULDBLOCK {
                do { try waiting() } catch {
                    close(descriptor)
                    throw error
                }
                usleep(100_000)
            } else if code != EINTR {
                // Some network mounts have no locks, and say so in many ways. What is fetched twice is still verified.
                isHeld = false
                break
            }
        }
        self.isHeld = isHeld
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }
}
