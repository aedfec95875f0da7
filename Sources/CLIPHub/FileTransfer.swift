// One file from the network to the disk: resumed where it broke off, checked against its digest, and named only when whole.

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// A file to be had, and where it goes.
struct FileTransfer {
    var url: String
    /// For progress and errors.
    var model: String
    var name: String
    var folder: String
    /// Where known.
    var size: Int?
    /// None where the server names its files by something that says nothing of their bytes.
    var digest: Digest?
    /// The file's own name.
    var destination: String
    /// Whether what has that name already counts only if its digest is right.
    var isSuspect = false
    /// Held while the file is written.
    var lockPath: String
    /// Another place where the file is to be found, and the link that leads from there to `destination`.
    var link: (path: String, target: String)?
    /// What has arrived. Its name says what it will be, so that any process may go on with it.
    private var partialPath: String { destination + ".incomplete" }

    /// Fetches the file unless it is there, and links it.
    ///
    /// - Throws: `HubError`, and what `progress` throws; what has arrived stays for the next attempt, unless another
    ///   process could be writing it: where there are no locks, each has a file of its own.
    func run(_ client: HTTPClient, _ settings: HubSettings, _ progress: @escaping ProgressHandler) throws {
        var report = TransferProgress(model: model, file: name, folder: folder, bytes: 0, total: size)
        let lock = try FileLock(lockPath, settings) {
            report.isWaiting = true
            report.bytes = Files.size(partialPath) ?? 0
            try progress(report)
        }
        try withExtendedLifetime(lock) {
            // Whoever held the lock may have moved it there.
            if let link, Files.exists(link.path) { return }
            let isNew = try !isThere { try progress(report) }
            if isNew {
                let path = lock.isHeld ? partialPath : Files.temporaryName(destination, "incomplete")
                let partial = try PartialFile(path, isKept: lock.isHeld, expecting: size)
                try fetch(into: partial, client, settings, progress)
                try partial.finish()
                guard rename(partial.path, destination) == 0 else { throw Files.failure(destination) }
            }
            if let link {
                try Files.place(
                    destination, at: link.path, linking: settings.avoidsLinks ? nil : link.target, moves: isNew)
            }
        }
    }

    /// Whether the file is on the disk.
    func isThere(_ tick: () throws -> Void) throws -> Bool {
        guard isSuspect, let digest, let found = try sha256(ofFile: destination, tick) else {
            return Files.exists(destination)
        }
        return .sha256(found) == digest
    }

    private func fetch(
        into partial: PartialFile, _ client: HTTPClient, _ settings: HubSettings, _ progress: @escaping ProgressHandler
    ) throws {
        let resumed = partial.count > 0
        try receive(into: partial, client, settings, progress)
        var found = try verification(of: partial)
        if found != nil, resumed {
            // What an earlier attempt left may be of another file, so all of it is fetched once more.
            try partial.restart()
            try receive(into: partial, client, settings, progress)
            found = try verification(of: partial)
        }
        if let found {
            partial.remove()
            throw HubError.model(
                "\(model): \(name) arrived with other content than published, \(found); nothing of it is kept")
        }
    }

    /// What is wrong with the bytes, or none.
    private func verification(of partial: PartialFile) throws -> String? {
        if let size, partial.count != size { return "\(partial.count) bytes instead of \(size)" }
        let found: String
        switch digest {
        case .sha256: found = try partial.sha256()
        case .gitBlob: found = try partial.gitBlob()
        case nil: return nil
        }
        let kind = if case .sha256 = digest { "SHA-256" } else { "git's SHA-1" }
        return found == digest?.text ? nil : "\(kind) \(found) instead of \(digest?.text ?? "")"
    }

    /// Requests the file, and what is missing of it again and again, while something arrives.
    private func receive(
        into partial: PartialFile, _ client: HTTPClient, _ settings: HubSettings, _ progress: @escaping ProgressHandler
    ) throws {
        var report = TransferProgress(model: model, file: name, folder: folder, bytes: partial.count, total: size)
        var entityTag: String?
        var failures = 0
        try progress(report)
        while size == nil || partial.count != size {
            let start = partial.count
            var fields: [String] = []
            if start > 0 {
                fields.append("Range: bytes=\(start)-")
                // A file that has changed since comes whole.
                if let entityTag { fields.append("If-Range: \(entityTag)") }
            }
            do {
                _ = try client.send(
                    url, fields: fields,
                    onHead: { head in
                        if head.status != 206 {
                            try partial.restart()
                        } else if head.contentRange?.start != start {
                            throw HubError.model(
                                "\(model): \(name) was asked for from byte \(start) on, and the server sent another part"
                            )
                        }
                        if let total = head.total, let size, total != size {
                            throw HubError.model(
                                "\(model): \(name) is published with \(size) bytes, and the server says \(total)")
                        }
                        report.total = size ?? head.total
                        // Weak tags do not promise equal bytes.
                        entityTag = head.fields["etag"].flatMap { $0.hasPrefix("\"") ? $0 : nil }
                    },
                    onBody: { bytes in
                        if let size, partial.count + bytes.count > size {
                            throw HubError.model("\(model): \(name) is published with \(size) bytes, and more arrive")
                        }
                        try partial.append(bytes)
                    },
                    tick: {
                        report.bytes = partial.count
                        try progress(report)
                    })
                break
            } catch let error as StatusError where error.head.status == 416 && start > 0 {
                // Nothing behind what is there: it is whole, or of another file. The digest decides.
                if report.total == nil || report.total == start { break }
                try partial.restart()
            } catch let error as StatusError {
                failures += 1
                guard error.isTransient, failures < settings.attempts else {
                    throw HubError.status(error, "\(model): \(name)", settings)
                }
            } catch let error as TransportError {
                failures = partial.count > start ? 1 : failures + 1
                guard error.isTransient, failures < settings.attempts else {
                    throw HubError.request(error, "\(model): \(name)", settings)
                }
            }
            try pause(failures, settings) { try progress(report) }
        }
        report.bytes = partial.count
        try progress(report)
    }
}

/// Waits before a repetition: twice as long each time, eight seconds at most.
func pause(_ failures: Int, _ settings: HubSettings, _ tick: () throws -> Void) throws {
    var left = min(settings.retryDelay * Double(1 << max(0, failures - 1)), 8)
    while left > 0 {
        try tick()
        usleep(UInt32(min(left, 0.1) * 1e6))
        left -= 0.1
    }
}

/// What has arrived of a file, with the digest of it kept up to date.
private final class PartialFile {
    let path: String
    private let isKept: Bool
    private let descriptor: Int32
    private(set) var count = 0
    private var hasher = Hasher256()

    /// Opens what an earlier attempt left, where it is not longer than the file.
    ///
    /// - Parameter isKept: whether it stays for the next attempt where this one fails.
    init(_ path: String, isKept: Bool, expecting size: Int?) throws {
        self.path = path
        self.isKept = isKept
        descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o666)
        if descriptor < 0 { throw Files.failure(path) }
        let found = Int(lseek(descriptor, 0, SEEK_END))
        if found > size ?? Int.max {
            try restart()
        } else {
            try scan { hasher.update($0) }
        }
    }

    deinit {
        close(descriptor)
        if !isKept { remove() }  // Nothing, once it has its final name.
    }

    func restart() throws {
        guard ftruncate(descriptor, 0) == 0, lseek(descriptor, 0, SEEK_SET) == 0 else { throw Files.failure(path) }
        count = 0
        hasher = Hasher256()
    }

    func append(_ bytes: UnsafeRawBufferPointer) throws {
        var rest = bytes
        while let base = rest.baseAddress, !rest.isEmpty {
            let written = write(descriptor, base, rest.count)
            if written < 0, errno == EINTR { continue }
            if written <= 0 { throw Files.failure(path) }
            rest = UnsafeRawBufferPointer(rebasing: rest[written...])
        }
        hasher.update(bytes)
        count += bytes.count
    }

    func sha256() throws -> String { hasher.end() }

    /// Reads the file again; such files are small.
    func gitBlob() throws -> String {
        var hasher = HasherGit(size: count)
        try scan { hasher.update($0) }
        return hasher.end()
    }

    /// Brings the bytes to the disk, so that a name never stands for less after a power cut.
    func finish() throws {
        if fsync(descriptor) != 0, errno != EINVAL { throw Files.failure(path) }
    }

    func remove() { unlink(path) }

    /// Lends the file's bytes from its start, and leaves the position at its end.
    private func scan(_ body: (UnsafeRawBufferPointer) -> Void) throws {
        guard lseek(descriptor, 0, SEEK_SET) == 0 else { throw Files.failure(path) }
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        count = 0
        while true {
            let got = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
            if got < 0, errno == EINTR { continue }
            if got < 0 { throw Files.failure(path) }
            if got == 0 { return }
            buffer.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[..<got])) }
            count += got
        }
    }
}

/// The digest of a file on the disk, in hexadecimal; none where it cannot be read.
func sha256(ofFile path: String, _ tick: () throws -> Void) throws -> String? {
    guard let file = fopen(path, "r") else { return nil }
    defer { fclose(file) }
    var hasher = Hasher256()
    var buffer = [UInt8](repeating: 0, count: 1 << 22)
    while true {
        let count = fread(&buffer, 1, buffer.count, file)
        if count == 0 { return ferror(file) == 0 ? hasher.end() : nil }
        buffer.withUnsafeBytes { hasher.update(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
        try tick()
    }
}
