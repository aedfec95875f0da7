// HTTP/1.1 over SwiftNIO: whole requests in, whole responses out. What they mean is elsewhere.

import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

package struct HTTPRequest: Sendable {
    package var method: String
    /// Without the query.
    package var path: String
    /// Without its parameters, in lower case: "application/json".
    package var contentType: String?
    package var body: [UInt8]

    package init(method: String, path: String, contentType: String? = nil, body: [UInt8] = []) {
        self.method = method
        self.path = path
        self.contentType = contentType
        self.body = body
    }
}

package struct HTTPResponse: Sendable {
    package var status: Int
    package var contentType: String
    /// Beside those that every response has.
    package var fields: [(name: String, value: String)] = []
    package var body: String

    package init(status: Int = 200, contentType: String = "application/json", body: String) {
        self.status = status
        self.contentType = contentType
        self.body = body
    }
}

/// Why a server cannot listen where it should.
package struct ListeningFailure: Error, CustomStringConvertible {
    package let description: String
}

package struct HTTPServer: Sendable {
    package var host: String
    /// 0: one that is free.
    package var port: Int
    /// Longer bodies are refused, in bytes.
    package var bodyLimit: Int
    /// Connections on which nothing comes for so long, and nothing is awaited, are closed; so are those whose clients leave an
    /// answer unread for so long.
    package var idleSeconds: Int64 = 120

    private typealias Connection = NIOAsyncChannel<HTTPServerRequestPart, HTTPServerResponsePart>

    package init(host: String, port: Int, bodyLimit: Int) {
        self.host = host
        self.port = port
        self.bodyLimit = bodyLimit
    }

    /// Answers until `shouldStop`, asked ten times a second, says so; then accepts nothing more, and returns when all that was asked is
    /// answered. `tooLong` answers bodies beyond the limit.
    ///
    /// - Throws: `ListeningFailure`.
    package func run(
        shouldStop: @escaping @Sendable () -> Bool, onListening: (Int) -> Void, tooLong: HTTPResponse,
        respond: @escaping @Sendable (HTTPRequest) async -> HTTPResponse
    ) async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: min(4, 1 + System.coreCount / 4))
        do {
            try await serve(on: group, shouldStop, onListening, tooLong, respond)
        } catch {
            try? await group.shutdownGracefully()
            throw error
        }
        try? await group.shutdownGracefully()
    }

    private func serve(
        on group: MultiThreadedEventLoopGroup, _ shouldStop: @escaping @Sendable () -> Bool,
        _ onListening: (Int) -> Void, _ tooLong: HTTPResponse,
        _ respond: @escaping @Sendable (HTTPRequest) async -> HTTPResponse
    ) async throws {
        let listener = try await listen(on: group)
        onListening(listener.channel.localAddress?.port ?? port)
        let open = OpenChannels()
        try await withThrowingTaskGroup(of: Void.self) { stopping in
            stopping.addTask {
                while !shouldStop() { try await Task.sleep(for: .milliseconds(100)) }
                try await listener.channel.close()
            }
            try await withThrowingDiscardingTaskGroup { connections in
                try await listener.executeThenClose { accepted in
                    for try await connection in accepted {
                        open.add(connection.channel)
                        connections.addTask {
                            // A connection that breaks is its client's affair.
                            try? await answer(connection, tooLong, respond)
                            open.remove(connection.channel)
                        }
                    }
                }
                open.end()
            }
            stopping.cancelAll()
        }
    }

    private func listen(on group: MultiThreadedEventLoopGroup) async throws -> NIOAsyncChannel<Connection, Never> {
        let idle = TimeAmount.seconds(idleSeconds)
        do {
            return try await ServerBootstrap(group: group)
                .serverChannelOption(.backlog, value: 1024)
                .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                .childChannelOption(.socketOption(.tcp_nodelay), value: 1)
                .bind(host: host, port: port) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        let pipeline = channel.pipeline.syncOperations
                        try pipeline.addHandler(IdleStateHandler(readTimeout: idle))
                        try pipeline.configureHTTPServerPipeline()
                        try pipeline.addHandler(IdleConnectionHandler(idle))
                        return try Connection(wrappingChannelSynchronously: channel)
                    }
                }
        } catch let error as IOError {
            throw ListeningFailure(description: String(cString: strerror(error.errnoCode)))
        } catch {
            throw ListeningFailure(description: "\(error)")
        }
    }

    private func answer(
        _ connection: Connection, _ tooLong: HTTPResponse, _ respond: @Sendable (HTTPRequest) async -> HTTPResponse
    ) async throws {
        try await connection.executeThenClose { inbound, outbound in
            var head: HTTPRequestHead?
            var body: [UInt8] = []
            for try await part in inbound {
                switch part {
                case .head(let received):
                    head = received
                    body = []
                    let length = received.headers.first(name: "content-length").flatMap { Int($0) } ?? 0
                    if length > bodyLimit {
                        return try await write(tooLong, to: received, outbound, closes: true)
                    }
                    body.reserveCapacity(length)
                    if received.headers.first(name: "expect")?.lowercased() == "100-continue" {
                        try await outbound.write(.head(HTTPResponseHead(version: received.version, status: .continue)))
                    }
                case .body(let buffer):
                    guard let head else { return }
                    if body.count + buffer.readableBytes > bodyLimit {
                        return try await write(tooLong, to: head, outbound, closes: true)
                    }
                    body += buffer.readableBytesView
                case .end:
                    guard let request = head else { return }
                    head = nil
                    let response = await respond(
                        HTTPRequest(
                            method: request.method.rawValue,
                            path: request.uri.split(separator: "?", omittingEmptySubsequences: false).first.map(
                                String.init)
                                ?? "/",
                            contentType: request.headers.first(name: "content-type")?.split(separator: ";").first?
                                .lowercased().filter { $0 != " " }, body: body))
                    body = []
                    try await write(response, to: request, outbound, closes: !request.isKeepAlive)
                    if !request.isKeepAlive { return }
                }
            }
        }
    }

    private func write(
        _ response: HTTPResponse, to request: HTTPRequestHead,
        _ outbound: NIOAsyncChannelOutboundWriter<HTTPServerResponsePart>, closes: Bool
    ) async throws {
        var headers = HTTPHeaders()
        headers.add(name: "content-type", value: response.contentType)
        headers.add(name: "content-length", value: String(response.body.utf8.count))
        for (name, value) in response.fields { headers.add(name: name, value: value) }
        if closes { headers.add(name: "connection", value: "close") }
        let head = HTTPResponseHead(
            version: request.version, status: HTTPResponseStatus(statusCode: response.status), headers: headers)
        var parts: [HTTPServerResponsePart] = [.head(head)]
        if request.method != .HEAD { parts.append(.body(.byteBuffer(ByteBuffer(string: response.body)))) }
        parts.append(.end(nil))
        try await outbound.write(contentsOf: parts)
    }
}

/// The connections that are open, so that they can be told to end.
private final class OpenChannels: Sendable {
    private let channels = Mutex<[ObjectIdentifier: any Channel]>([:])

    func add(_ channel: any Channel) { channels.withLock { $0[ObjectIdentifier(channel)] = channel } }
    func remove(_ channel: any Channel) { _ = channels.withLock { $0.removeValue(forKey: ObjectIdentifier(channel)) } }

    /// Those on which an answer is awaited close with it, the others at once, a request that is half sent included.
    func end() {
        let open = channels.withLock { Array($0.values) }
        for channel in open {
            channel.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
            channel.pipeline.fireUserInboundEventTriggered(IdleConnectionHandler.End())
        }
    }
}

/// Closes a connection on which nothing came for long, unless its client waits for an answer or reads one; and one whose
/// client does not read its answer.
private final class IdleConnectionHandler: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    /// The server ends.
    struct End: Sendable {}

    private let idle: TimeAmount
    private var isAwaited = false
    /// When the last answer was sent: the time of silence begins there.
    private var answered = NIODeadline.uptimeNanoseconds(0)
    /// Since when an answer waits for its client to read it.
    private var unread: NIODeadline?
    /// The server ends: nobody waits for a client for longer than this.
    private var isEnding = false
    private static let lastPatience = TimeAmount.seconds(10)

    init(_ idle: TimeAmount) { self.idle = idle }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if case .end = unwrapInboundIn(data) { isAwaited = true }
        context.fireChannelRead(data)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard case .end = unwrapOutboundIn(data) else { return context.write(data, promise: promise) }
        let sent = promise ?? context.eventLoop.makePromise()
        let handler = NIOLoopBound(self, eventLoop: context.eventLoop)
        sent.futureResult.whenComplete { _ in
            handler.value.isAwaited = false
            handler.value.answered = .now()
            handler.value.unread = nil
        }
        unread = .now()
        context.write(data, promise: sent)
        if isEnding { waitForTheLast(context) }
    }

    /// Closes the connection where the answer that is being sent will not have been read in a while.
    private func waitForTheLast(_ context: ChannelHandlerContext) {
        guard unread != nil else { return }
        let bound = NIOLoopBound((handler: self, context: context), eventLoop: context.eventLoop)
        context.eventLoop.scheduleTask(in: min(idle, Self.lastPatience)) {
            if bound.value.handler.unread != nil { bound.value.context.close(promise: nil) }
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        let isIdle = event is IdleStateHandler.IdleStateEvent && .now() - answered >= idle || event is End
        let isStuck = unread.map { .now() - $0 >= idle } ?? false
        if isIdle, !isAwaited || isStuck {
            context.close(promise: nil)
        } else {
            if event is End {
                isEnding = true
                waitForTheLast(context)
            }
            context.fireUserInboundEventTriggered(event)
        }
    }
}
