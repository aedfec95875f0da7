// HTTP on real sockets: bodies too long, connections kept and closed, and the end of the server.

import CLIPServer
import Foundation
import Synchronization
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A connection to this machine, with nothing in between that could mend what is sent.
private final class Connection: Sendable {
    private let descriptor: Int32

    init(port: Int) throws {
        #if canImport(Glibc)
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        #else
        descriptor = socket(AF_INET, SOCK_STREAM, 0)
        #endif
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let status = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        try #require(status == 0)
        // Long: on a busy machine the server gets its turn when tests that compute have had theirs.
        var limit = timeval(tv_sec: 600, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { close(descriptor) }

    /// False where the connection is no more.
    @discardableResult
    func write(_ text: String) -> Bool {
        text.withCString { send(descriptor, $0, strlen($0), Int32(MSG_NOSIGNAL)) } >= 0
    }

    /// What comes until the server closes, or until `end` has come; "silence", where neither happens.
    func read(until end: String? = nil) -> String {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = recv(descriptor, &buffer, buffer.count, 0)
            if count < 0 { return "silence" }
            if count == 0 { break }
            bytes += buffer[..<count]
            if let end, String(decoding: bytes, as: UTF8.self).hasSuffix(end) { break }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// Runs `body` beside a server that answers with the method, the path, the type and the length of the body; stops the
/// server, where `body` has not, and waits for its end.
private func withServer(
    bodyLimit: Int = 1000, idleSeconds: Int64 = 60, delay: Double = 0, padding: Int = 0,
    onRequest: @escaping @Sendable () -> Void = {},
    _ body: @escaping @Sendable (_ port: Int, _ stop: @Sendable () -> Void) throws -> Void
) async throws {
    var server = HTTPServer(host: "127.0.0.1", port: 0, bodyLimit: bodyLimit)
    server.idleSeconds = idleSeconds
    let stops = Mutex(false)
    let client = Mutex<(any Error)?>(nil)
    let stop: @Sendable () -> Void = { stops.withLock { $0 = true } }
    try await server.run(
        shouldStop: { stops.withLock { $0 } },
        onListening: { port in
            Thread.detachNewThread {
                do { try body(port, stop) } catch { client.withLock { $0 = error } }
                stop()
            }
        },
        tooLong: HTTPResponse(status: 413, contentType: "text/plain", body: "too long"),
        respond: { request in
            onRequest()
            if delay > 0 { try? await Task.sleep(for: .seconds(delay)) }
            return HTTPResponse(
                contentType: "text/plain",
                body: String(repeating: " ", count: padding)
                    + "\(request.method) \(request.path) \(request.contentType ?? "none") \(request.body.count).")
        })
    if let error = client.withLock({ $0 }) { throw error }
}

@Suite("HTTP", .serialized)
struct HTTPServerTests {
    @Test("Requests on one connection are answered one after the other, pipelined ones and those in chunks too")
    func keepAlive() async throws {
        try await withServer { port, _ in
            let connection = try Connection(port: port)
            connection.write(
                "POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Type: Image/PNG; q=1\r\nContent-Length: 3\r\n\r\nabc"
                    + "GET /d HTTP/1.1\r\nHost: x\r\n\r\n")
            let both = connection.read(until: "GET /d none 0.")
            #expect(both.contains("HTTP/1.1 200 OK\r\n") && both.contains("\r\n\r\nPOST /a image/png 3."))
            connection.write(
                "POST /e HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"
            )
            let last = connection.read()
            #expect(last.hasSuffix("POST /e none 5.") && last.lowercased().contains("connection: close"))
        }
    }

    @Test("HEAD has the length and no body; a client that waits to be told to go on is told")
    func headAndContinue() async throws {
        try await withServer { port, _ in
            let connection = try Connection(port: port)
            connection.write("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
            let head = connection.read(until: "\r\n\r\n")
            #expect(head.contains("content-length: \("HEAD / none 0.".count)\r\n"))
            connection.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            #expect(connection.read(until: "\r\n\r\n").hasPrefix("HTTP/1.1 100 Continue"))
            connection.write("ab")
            #expect(connection.read(until: "POST / none 2.").hasPrefix("HTTP/1.1 200"))
        }
    }

    @Test("A body that is too long is refused, by its announcement or once it is; what is not HTTP gets 400")
    func tooLong() async throws {
        try await withServer(bodyLimit: 10) { port, _ in
            let announced = try Connection(port: port)
            announced.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n")
            #expect(announced.read().hasPrefix("HTTP/1.1 413 "))
            let chunked = try Connection(port: port)
            chunked.write(
                "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n6\r\nabcdef\r\n")
            #expect(chunked.read().hasPrefix("HTTP/1.1 413 "))
            let whole = try Connection(port: port)
            whole.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nConnection: close\r\n\r\n0123456789")
            #expect(whole.read().hasPrefix("HTTP/1.1 200 "))
            let noise = try Connection(port: port)
            noise.write("\u{1}\u{2}\u{3}\r\n\r\n")
            #expect(noise.read().hasPrefix("HTTP/1.1 400 "))
        }
    }

    @Test("A silent connection is closed after its time, one that waits for an answer is not")
    func idle() async throws {
        try await withServer(idleSeconds: 1, delay: 2.5) { port, _ in
            let silent = try Connection(port: port)
            let waiting = try Connection(port: port)
            waiting.write("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(silent.read().isEmpty)
            #expect(waiting.read(until: "GET /slow none 0.").hasPrefix("HTTP/1.1 200"))
        }
    }

    @Test("At the end, what was asked is answered; silent connections and half a request do not hold it up")
    func end() async throws {
        let hasAsked = DispatchSemaphore(value: 0)
        try await withServer(idleSeconds: 100_000, delay: 1, onRequest: { hasAsked.signal() }) { port, stop in
            let silent = try Connection(port: port)
            let half = try Connection(port: port)
            half.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
            let asked = try Connection(port: port)
            asked.write("GET /asked HTTP/1.1\r\nHost: x\r\n\r\n")
            hasAsked.wait()
            stop()
            let answer = asked.read()
            #expect(answer.hasSuffix("GET /asked none 0.") && answer.lowercased().contains("connection: close"))
            #expect(silent.read().isEmpty)
            #expect(half.read().isEmpty)
        }
    }

    @Test("A connection is closed whose client does not read its answer")
    func unread() async throws {
        try await withServer(idleSeconds: 1, padding: 64 << 20) { port, _ in
            let connection = try Connection(port: port)
            connection.write("GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            // Once the server's end is closed, it answers whatever comes with a reset.
            var patience = 100
            repeat {
                sleep(3)
                patience -= 1
            } while connection.write("G") && patience > 0
            #expect(patience > 0)
        }
    }

    @Test("At the end, an answer that is not read holds it up for little")
    func unreadAtTheEnd() async throws {
        let open = Mutex<Connection?>(nil)
        let hasAsked = DispatchSemaphore(value: 0), hasEnded = DispatchSemaphore(value: 0)
        try await withServer(idleSeconds: 2, padding: 64 << 20, onRequest: { hasAsked.signal() }) { port, stop in
            let connection = try Connection(port: port)
            open.withLock { $0 = connection }
            connection.write("GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            hasAsked.wait()
            stop()
            Thread.detachNewThread {
                // Lets a server go on that waits for the client.
                if hasEnded.wait(timeout: .now() + 300) == .timedOut { open.withLock { $0 = nil } }
            }
        }
        hasEnded.signal()
        let isOpen = open.withLock { $0 != nil }
        #expect(isOpen)
    }

    @Test("A port that is taken is said")
    func taken() async throws {
        try await withServer { port, _ in
            let failure = Mutex<String>("")
            let done = DispatchSemaphore(value: 0)
            Task {
                do {
                    try await HTTPServer(host: "127.0.0.1", port: port, bodyLimit: 1).run(
                        shouldStop: { true }, onListening: { _ in }, tooLong: HTTPResponse(body: ""),
                        respond: { _ in HTTPResponse(body: "") })
                } catch { failure.withLock { $0 = "\(error)" } }
                done.signal()
            }
            done.wait()
            #expect(failure.withLock { $0 } == String(cString: strerror(EADDRINUSE)))
        }
    }
}
