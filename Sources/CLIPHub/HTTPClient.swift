// Requests, one at a time, through libcurl: its proxies (HTTPS_PROXY, NO_PROXY), its certificates, its protocols.
// Redirects are followed here, so that the token goes to the hub alone and no secure address leads to an open one.
import CHub

/// The first lines of a response.
struct ResponseHead {
    var status = 0
    /// By name in lower case.
    var fields: [String: String] = [:]
    /// The address that answered.
    var url = ""
    /// Where a redirect leads that was not followed.
    var redirect: String?

    /// The whole file's bytes, as a response with all of it or with a part says.
    var total: Int? {
        if status == 206 { return contentRange?.total }
        return fields["content-length"].flatMap { Int($0) }
    }

    /// "bytes 100-199/200".
    var contentRange: (start: Int, total: Int?)? {
        guard let value = fields["content-range"], value.hasPrefix("bytes ") else { return nil }
        let parts = value.dropFirst(6).split(separator: "/")
        guard parts.count == 2, let start = parts[0].split(separator: "-").first.flatMap({ Int($0) }) else {
            return nil
        }
        return (start, Int(parts[1]))
    }
}

/// A request that brought nothing, or not all.
struct TransportError: Error {
    /// libcurl's number.
    var code: Int
    var message: String
    var url: String

    /// Whether the same may succeed in a moment: a connection that broke, not one that could not be made.
    var isTransient: Bool {
        [16, 18, 28, 52, 55, 56, 92].contains(code)
            && !["CONNECT", "Connection timed out", "Resolving timed out"].contains { message.contains($0) }
    }
}

/// A response that says that there is no file.
struct StatusError: Error {
    var head: ResponseHead

    /// Whether the server speaks of itself and of this moment.
    var isTransient: Bool { head.status >= 500 || head.status == 429 }
}

final class HTTPClient {
    private let settings: HubSettings
    private let session: OpaquePointer

    private static let mostRedirects = 10

    init(_ settings: HubSettings) throws {
        guard chub_curl_load() else {
            throw HubError.model(
                "models are fetched with libcurl, and libcurl.so.4 is not on this machine: install the package libcurl4 "
                    + "(Debian, Ubuntu: apt-get install libcurl4 ca-certificates)")
        }
        guard let session = chub_session_open() else { throw HubError.model("libcurl cannot be started: no memory") }
        self.settings = settings
        self.session = session
    }

    deinit { chub_session_close(session) }

    /// Sends a request and follows redirects.
    ///
    /// - Parameters:
    ///   - follows: whether to follow this redirect; where not, the response with it is what is given back.
    ///   - onHead: told of a response with content, before its first bytes.
    ///   - onBody: the bytes of that response.
    ///   - tick: called at least once a second.
    /// - Throws: `TransportError`, `StatusError` for 400 and above, `HubError`, and what the closures throw.
    func send(
        _ url: String, fields: [String] = [], headersOnly: Bool = false,
        follows: (ResponseHead, String) -> Bool = { _, _ in true },
        onHead: @escaping (ResponseHead) throws -> Void = { _ in },
        onBody: @escaping (UnsafeRawBufferPointer) throws -> Void = { _ in }, tick: @escaping () throws -> Void
    ) throws -> ResponseHead {
        let trusted = origin(settings.endpoint)
        var url = url
        for _ in 0...Self.mostRedirects {
            guard let target = origin(url) else { throw HubError.model("\(url) is not an address on the web") }
            var fields = fields
            if let token = settings.token, target == trusted { fields.append("Authorization: Bearer \(token)") }
            let exchange = Exchange(url: url, onHead: onHead, onBody: onBody, tick: tick)
            var head = try perform(url, fields: fields, headersOnly: headersOnly, exchange)
            guard (300..<400).contains(head.status), head.status != 304 else {
                if head.status >= 400 { throw StatusError(head: head) }
                return head
            }
            guard let next = head.redirect, let nextOrigin = origin(next) else {
                throw HubError.model("\(url) redirects (HTTP \(head.status)) to nowhere")
            }
            guard follows(head, next) else { return head }
            if target.hasPrefix("https:"), !nextOrigin.hasPrefix("https:") {
                throw HubError.model("\(url) redirects to the insecure address \(next), which was refused")
            }
            url = next
            head.redirect = nil
        }
        throw HubError.model("\(url) redirects more than \(Self.mostRedirects) times")
    }

    /// Scheme, host and port.
    func origin(_ url: String) -> String? {
        let buffer = [CChar](unsafeUninitializedCapacity: 512) { buffer, count in
            let fits = buffer.baseAddress.map { chub_origin(url, $0, 512) } ?? false
            count = fits ? 512 : 0
        }
        return buffer.isEmpty
            ? nil : String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private func perform(
        _ url: String, fields: [String], headersOnly: Bool, _ exchange: Exchange
    ) throws -> ResponseHead {
        var response = CHubResponse()
        let agent = "clip-gpu"
        // Sizes and digests are the file's, so it must come as it is.
        let fields = fields + ["Accept-Encoding: identity"]
        withCStrings([url, agent, settings.certificateFile, settings.certificateFolder] + fields) { strings in
            guard let url = strings[0], let agent = strings[1] else { return }
            let headers = Array(strings.dropFirst(4)) + [nil]
            headers.withUnsafeBufferPointer { headers in
                guard let headers = headers.baseAddress else { return }
                var request = CHubRequest(
                    url: url, headers: headers, headersOnly: headersOnly, userAgent: agent,
                    certificateFile: strings[2], certificateFolder: strings[3], connectTimeout: 15,
                    stallTimeout: Int32(settings.stallTimeout), context: Unmanaged.passUnretained(exchange).toOpaque(),
                    onHeader: { Exchange.from($0)?.header($1, $2) ?? false },
                    onBody: { Exchange.from($0)?.body($1, $2) ?? false },
                    onTick: { Exchange.from($0)?.ticked() ?? false })
                chub_perform(session, &request, &response)
            }
        }
        if let failure = exchange.failure { throw failure }
        if response.code != 0 {
            throw TransportError(code: Int(response.code), message: text(of: response.message), url: url)
        }
        try exchange.announce()
        var head = exchange.head
        let redirect = text(of: response.redirect)
        head.redirect = redirect.isEmpty ? nil : redirect
        return head
    }
}

/// What happens during one request, on the thread that waits for its end.
private final class Exchange {
    var head: ResponseHead
    var failure: (any Error)?
    private let onHead: (ResponseHead) throws -> Void
    private let onBody: (UnsafeRawBufferPointer) throws -> Void
    private let tick: () throws -> Void
    private var isAnnounced = false

    init(
        url: String, onHead: @escaping (ResponseHead) throws -> Void,
        onBody: @escaping (UnsafeRawBufferPointer) throws -> Void, tick: @escaping () throws -> Void
    ) {
        head = ResponseHead(url: url)
        self.onHead = onHead
        self.onBody = onBody
        self.tick = tick
    }

    static func from(_ context: UnsafeMutableRawPointer?) -> Exchange? {
        context.map { Unmanaged<Exchange>.fromOpaque($0).takeUnretainedValue() }
    }

    func header(_ bytes: UnsafePointer<CChar>, _ count: Int) -> Bool {
        let line = String(decoding: UnsafeRawBufferPointer(start: bytes, count: count), as: UTF8.self)
        if line.hasPrefix("HTTP/") {
            // Each response begins anew: a proxy's and interim ones stand before the last.
            let parts = line.split(separator: " ")
            head = ResponseHead(status: parts.count > 1 ? Int(parts[1].prefix(3)) ?? 0 : 0, url: head.url)
        } else if let colon = line.firstIndex(of: ":") {
            let value = line[line.index(after: colon)...].drop { $0 == " " || $0 == "\t" }
            head.fields[line[..<colon].lowercased()] = String(value.prefix { !$0.isNewline })
        }
        return true
    }

    func body(_ bytes: UnsafeRawPointer, _ count: Int) -> Bool {
        guard (200..<300).contains(head.status) else { return true }  // a page for people
        return attempt {
            try announce()
            try onBody(UnsafeRawBufferPointer(start: bytes, count: count))
        }
    }

    func ticked() -> Bool { attempt { try tick() } }

    /// Tells of the response, once.
    func announce() throws {
        guard !isAnnounced, (200..<300).contains(head.status) else { return }
        isAnnounced = true
        try onHead(head)
    }

    private func attempt(_ body: () throws -> Void) -> Bool {
        do {
            try body()
            return true
        } catch {
            failure = failure ?? error
            return false
        }
    }
}

/// Lends texts as C strings; none stays none.
private func withCStrings(_ texts: [String?], _ body: ([UnsafePointer<CChar>?]) -> Void) {
    func lend(_ index: Int, _ pointers: [UnsafePointer<CChar>?]) {
        guard index < texts.count else { return body(pointers) }
        guard let text = texts[index] else { return lend(index + 1, pointers + [nil]) }
        text.withCString { lend(index + 1, pointers + [$0]) }
    }
    lend(0, [])
}

/// A C array of characters that ends with a zero.
private func text<Characters>(of characters: Characters) -> String {
    withUnsafeBytes(of: characters) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
}

extension HubError {
    /// What a failed request means for a person.
    ///
    /// - Parameter what: the file or the model that was asked for.
    static func request(_ error: TransportError, _ what: String, _ settings: HubSettings) -> HubError {
        let advice =
            switch error.code {
            case 5, 97: "check the proxy that HTTPS_PROXY or ALL_PROXY names"
            case 6, 7: "check the network, and HTTPS_PROXY where there must be a proxy"
            case 60:
                "its certificate is not trusted; a proxy's own certificate can be named with SSL_CERT_FILE"
            case 77:
                "the certificates of trusted authorities are missing: install the package ca-certificates, or name a file "
                    + "with SSL_CERT_FILE"
            default:
                error.message.contains("CONNECT") ? "the proxy refused; check HTTPS_PROXY" : "try again"
            }
        return .model("\(what) could not be fetched from \(error.url): \(error.message); \(advice)")
    }

    /// What a refusal means for a person.
    static func status(_ error: StatusError, _ what: String, _ settings: HubSettings) -> HubError {
        let head = error.head
        let isHub = head.url.hasPrefix(settings.endpoint)
        let meaning =
            switch head.status {
            case 401 where isHub && settings.token == nil:
                "there is no such public model; a private or gated one needs a token in HF_TOKEN"
            case 401 where isHub:
                "the hub does not know the token, or there is no such model; check the name and HF_TOKEN"
            case 403 where isHub:
                "the hub refuses access; gated models want their conditions accepted on their page first"
            case 404 where head.fields["x-error-code"] == "RevisionNotFound": "there is no such revision"
            case 404 where isHub: "the hub has nothing of that name"
            case 429: "the server asks for fewer requests; try again later"
            case 500...: "the server failed; try again later"
            default: "the server refused"
            }
        return .model("\(what) could not be fetched: \(meaning) (HTTP \(head.status) from \(head.url))")
    }
}
