// A web server on this machine that misbehaves as told, on plain sockets.

import CLIPHub
import Foundation
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// As `send`, without a signal where the client is gone.
private func systemSend(_ connection: Int32, _ bytes: UnsafeRawPointer?, _ count: Int) -> Int {
    send(connection, bytes, count, Int32(MSG_NOSIGNAL))
}

/// What a client asked.
struct Request: Sendable {
    var method: String
    /// With its query.
    var path: String
    /// By name in lower case.
    var fields: [String: String]

    /// First byte of "bytes=N-".
    var rangeStart: Int? { fields["range"].flatMap { Int($0.dropFirst(6).prefix { $0 != "-" }) } }
}

/// What a client is told.
struct Reply: Sendable {
    var status = 200
    var fields: [String: String] = [:]
    var body: [UInt8] = []
    /// Bytes of the body that are sent before the connection is closed; all where none.
    var sends: Int?
    /// The length that is announced, where it is not the body's.
    var announces: Int?

    /// All of a file, or the part that a request asks for, as a good server answers.
    static func file(_ bytes: [UInt8], _ request: Request, tag: String? = nil) -> Reply {
        var reply = Reply(body: bytes)
        if let tag { reply.fields["ETag"] = "\"\(tag)\"" }
        if let start = request.rangeStart {
            if start >= bytes.count {
                return Reply(status: 416, fields: ["Content-Range": "bytes */\(bytes.count)"])
            }
            reply.status = 206
            reply.fields["Content-Range"] = "bytes \(start)-\(bytes.count - 1)/\(bytes.count)"
            reply.body = Array(bytes[start...])
        }
        return reply
    }
}

final class TestServer: Sendable {
    /// The same server under two hosts' names.
    struct Addresses: Sendable {
        var own: String
        var other: String
    }

    let port: Int
    private let listener: Int32
    private let answer: @Sendable (Request, Addresses) -> Reply
    private let log = Mutex<[Request]>([])

    var requests: [Request] { log.withLock { $0 } }
    var addresses: Addresses { Addresses(own: "http://127.0.0.1:\(port)", other: "http://localhost:\(port)") }

    init(_ answer: @escaping @Sendable (Request, Addresses) -> Reply) throws {
        self.answer = answer
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let listener = listener
        let isBound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, length) == 0 && listen(listener, 64) == 0 && getsockname(listener, $0, &length) == 0
            }
        }
        guard isBound else { throw POSIXError(.EADDRNOTAVAIL) }
        port = Int(UInt16(bigEndian: address.sin_port))
        Thread.detachNewThread { [self] in
            while true {
                let connection = accept(listener, nil, nil)
                if connection < 0 { return }
                Thread.detachNewThread { [self] in
                    serve(connection)
                    close(connection)
                }
            }
        }
    }

    func stop() {
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
    }

    /// Requests of one connection, until it is closed.
    private func serve(_ connection: Int32) {
        var pending: [UInt8] = []
        while let request = read(connection, &pending) {
            log.withLock { $0.append(request) }
            let reply = answer(request, addresses)
            var head = "HTTP/1.1 \(reply.status) Told\r\nContent-Length: \(reply.announces ?? reply.body.count)\r\n"
            for (name, value) in reply.fields { head += "\(name): \(value)\r\n" }
            guard send(connection, Array((head + "\r\n").utf8)) else { return }
            if request.method == "HEAD" { continue }
            guard send(connection, Array(reply.body.prefix(reply.sends ?? Int.max))), reply.sends == nil else { return }
        }
    }

    private func read(_ connection: Int32, _ pending: inout [UInt8]) -> Request? {
        let end = Array("\r\n\r\n".utf8)
        while true {
            if let range = pending.firstRange(of: end) {
                let lines = String(decoding: pending[..<range.lowerBound], as: UTF8.self).split(separator: "\r\n")
                pending.removeSubrange(..<range.upperBound)
                let first = lines.first?.split(separator: " ") ?? []
                guard first.count == 3 else { return nil }
                var request = Request(method: String(first[0]), path: String(first[1]), fields: [:])
                for line in lines.dropFirst() {
                    let parts = line.split(separator: ":", maxSplits: 1)
                    request.fields[parts[0].lowercased()] =
                        parts.count > 1 ? parts[1].drop { $0 == " " }.description : ""
                }
                return request
            }
            var buffer = [UInt8](repeating: 0, count: 1 << 14)
            let count = recv(connection, &buffer, buffer.count, 0)
            if count <= 0 { return nil }
            pending += buffer[..<count]
        }
    }

    private func send(_ connection: Int32, _ bytes: [UInt8]) -> Bool {
        var done = 0
        while done < bytes.count {
            let count = bytes[done...].withUnsafeBytes {
                systemSend(connection, $0.baseAddress, $0.count)
            }
            if count <= 0 { return false }
            done += count
        }
        return true
    }
}

func sha256(_ bytes: [UInt8]) -> String {
    var hasher = Hasher256()
    bytes.withUnsafeBytes { hasher.update($0) }
    return hasher.end()
}

func gitBlob(_ bytes: [UInt8]) -> String {
    var hasher = HasherGit(size: bytes.count)
    bytes.withUnsafeBytes { hasher.update($0) }
    return hasher.end()
}

/// A hub with one repository, whose large files lie with another host.
struct TestHub: Sendable {
    static let commit = "0123456789abcdef0123456789abcdef01234567"

    let repository: String
    let files: [String: [UInt8]]
    /// Entity tags by files' names: SHA-256 of large files, git's of small ones.
    let tags: [String: String]

    private static let largeSize = 1000

    init(_ files: [String: [UInt8]], repository: String = "owner/name") {
        self.repository = repository
        self.files = files
        tags = files.mapValues { $0.count >= Self.largeSize ? sha256($0) : gitBlob($0) }
    }

    func answer(_ request: Request, otherAddress: String) -> Reply {
        let path = String(request.path.prefix { $0 != "?" })
        if path.hasPrefix("/api/models/") {
            guard path.hasPrefix("/api/models/\(repository)/revision/") else {
                return Reply(status: 404, fields: ["X-Error-Code": "RepoNotFound"])
            }
            let siblings = files.keys.sorted().map { "{\"rfilename\": \"\($0)\", \"size\": \(files[$0]?.count ?? 0)}" }
            return Reply(
                body: Array("{\"sha\": \"\(Self.commit)\", \"siblings\": [\(siblings.joined(separator: ","))]}".utf8))
        }
        let place = "/\(repository)/resolve/\(Self.commit)/"
        let name = path.hasPrefix("/cdn/") ? String(path.dropFirst(5)) : String(path.dropFirst(place.count))
        guard let bytes = files[name] else { return Reply(status: 404, fields: ["X-Error-Code": "EntryNotFound"]) }
        if path.hasPrefix("/cdn/") { return .file(bytes, request, tag: "of the other host") }
        if bytes.count >= Self.largeSize {
            return Reply(
                status: 302,
                fields: [
                    "Location": "\(otherAddress)/cdn/\(name)", "X-Linked-Etag": "\"\(tags[name] ?? "")\"",
                    "X-Linked-Size": "\(bytes.count)", "X-Repo-Commit": Self.commit,
                ])
        }
        return .file(bytes, request, tag: tags[name])
    }
}
