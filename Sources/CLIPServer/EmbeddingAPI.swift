// What clients may ask, and what they are told: OpenAI's embeddings in JSON, with pictures beside sentences.

import CLIPGPU
import Checkpoints
import Synchronization

/// `POST /v1/embeddings`, `GET /v1/models`, `GET /health` and `GET /metrics` of one model.
///
/// Requests and answers are those of OpenAI's `/v1/embeddings`, so that its clients work as they are; a picture is an input
/// `{"image": Base64}` or a `data:image/…` URI, or the body itself where its type is `image/…`.
package final class EmbeddingAPI: Sendable {
    private let service: CLIPService
    /// How clients may call the model; the first is what they are told.
    private let names: [String]
    /// Inputs of one request; OpenAI's limit.
    private let mostInputs = 2048
    /// Inputs that may wait for the device before further requests are refused.
    private let mostWaiting: Int
    /// Pictures of one request that are decoded at a time.
    private let picturesAtOnce = 64
    private let answered = Mutex<[Int: Int]>([:])

    package init(_ service: CLIPService, names: [String], mostWaiting: Int) {
        self.service = service
        self.names = names
        self.mostWaiting = mostWaiting
    }

    /// Answers any request; never fails.
    package func respond(to request: HTTPRequest) async -> HTTPResponse {
        var response: HTTPResponse
        do {
            response = try await route(request)
        } catch let refusal as Refusal {
            response = refusal.response
        } catch let error as CLIPError where error.code == .input {
            response = Refusal(400, error.description).response
        } catch {
            response = Refusal(500, "\(error)").response
        }
        let status = response.status
        answered.withLock { $0[status, default: 0] += 1 }
        return response
    }

    /// What a body longer than the server takes is answered with.
    package static func tooLong(limit: Int) -> HTTPResponse {
        Refusal(413, "The body is longer than the \(limit >> 20) MiB that this server takes (--body-limit).").response
    }

    private func route(_ request: HTTPRequest) async throws -> HTTPResponse {
        let path =
            request.path.count > 1 && request.path.hasSuffix("/") ? String(request.path.dropLast()) : request.path
        let methods: [String]
        switch path {
        case "/v1/embeddings": methods = ["POST"]
        case "/health", "/v1/models", "/metrics": methods = ["GET", "HEAD"]
        default:
            throw Refusal(
                404, "There is nothing at \(path): POST /v1/embeddings, GET /v1/models, /health and /metrics are here.")
        }
        guard methods.contains(request.method) else {
            var response = Refusal(405, "\(path) takes \(methods[0]), not \(request.method).").response
            response.fields.append(("allow", methods.joined(separator: ", ")))
            return response
        }
        switch path {
        case "/health": return HTTPResponse(body: "{\"status\": \"ok\"}\n")
        case "/v1/models": return HTTPResponse(body: models)
        case "/metrics": return HTTPResponse(contentType: "text/plain; version=0.0.4", body: metrics)
        default: return try await embeddings(request)
        }
    }

    // MARK: Embeddings

    private enum Input {
        case text(String)
        /// A picture file.
        case image([UInt8])
    }

    private struct Settings {
        var normalizes = true
        var truncates = false
        var isBase64 = false
    }

    private func embeddings(_ request: HTTPRequest) async throws -> HTTPResponse {
        let waiting = service.statistics.waiting
        guard waiting <= mostWaiting else {
            var response = Refusal(503, "\(waiting) inputs wait already: ask again in a second.").response
            response.fields.append(("retry-after", "1"))
            return response
        }
        var settings = Settings()
        let inputs: [Input]
        switch request.contentType {
        // The last is what curl says of any body.
        case "application/json", nil, "application/x-www-form-urlencoded":
            inputs = try self.inputs(json: request.body, &settings)
        case let type? where type.hasPrefix("image/") || type == "application/octet-stream":
            inputs = [.image(request.body)]
        case let type?:
            throw Refusal(
                415,
                "A body of type \(type) cannot be read: send application/json, or a picture as image/jpeg and the like."
            )
        }
        let (rows, tokens) = try await embed(inputs, settings)
        var body = "{\"object\": \"list\", \"data\": ["
        for index in rows.indices {
            if index > 0 { body += ", " }
            body += "{\"object\": \"embedding\", \"index\": \(index), \"embedding\": "
            if settings.isBase64 {
                let values = rows[index].map(\.bitPattern.littleEndian)
                body += "\"" + values.withUnsafeBytes { Base64.encode($0) } + "\"}"
            } else {
                body += JSONText.array(rows[index]) + "}"
            }
        }
        body += "], \"model\": \(JSONText.quoted(names[0])), "
        body += "\"usage\": {\"prompt_tokens\": \(tokens), \"total_tokens\": \(tokens)}}\n"
        return HTTPResponse(body: body)
    }

    private func inputs(json body: [UInt8], _ settings: inout Settings) throws -> [Input] {
        let json: JSON
        do {
            json = try body.withUnsafeBytes { try JSON(parsing: $0) }
        } catch {
            throw Refusal(400, "The body is not JSON: \(error).")
        }
        guard case .object(let members) = json else { throw Refusal(400, "The body is JSON, but not an object.") }
        var given: JSON?
        var areImages = false
        func flag(_ member: JSON.Member) throws -> Bool {
            guard let value = member.value.bool else {
                throw Refusal(400, "\"\(member.key)\" takes true or false.", parameter: member.key)
            }
            return value
        }
        for member in members where !member.value.isNull {
            switch member.key {
            case "input": given = member.value
            case "model":
                guard let name = member.value.string, names.contains(name) else {
                    throw Refusal(
                        404,
                        "The model \(member.value.string.map(JSONText.quoted) ?? "named") is not here: this server has "
                            + "\(JSONText.quoted(names[0])).", parameter: "model", code: "model_not_found")
                }
            case "encoding_format":
                guard let format = member.value.string, ["float", "base64"].contains(format) else {
                    throw Refusal(400, "\"encoding_format\" takes \"float\" or \"base64\".", parameter: member.key)
                }
                settings.isBase64 = format == "base64"
            case "dimensions":
                guard member.value.integer == service.information.embeddingDimension else {
                    throw Refusal(
                        400,
                        "This model's vectors have \(service.information.embeddingDimension) dimensions, and no other "
                            + "number can be had.", parameter: member.key)
                }
            case "modality":
                guard let modality = member.value.string, ["text", "image"].contains(modality) else {
                    throw Refusal(400, "\"modality\" takes \"text\" or \"image\".", parameter: member.key)
                }
                areImages = modality == "image"
            case "normalize": settings.normalizes = try flag(member)
            case "truncate": settings.truncates = try flag(member)
            case "user": break
            default:
                throw Refusal(
                    400,
                    "\(JSONText.quoted(member.key)) is unknown: input, model, encoding_format, dimensions, modality, "
                        + "normalize, truncate and user are known.", parameter: member.key)
            }
        }
        guard let given else { throw Refusal(400, "\"input\" is missing.", parameter: "input") }
        let list: [JSON] = given.array ?? [given]
        guard !list.isEmpty else { throw Refusal(400, "\"input\" is empty.", parameter: "input") }
        guard list.count <= mostInputs else {
            throw Refusal(400, "\(list.count) inputs: a request takes \(mostInputs) at most.", parameter: "input")
        }
        return try list.enumerated().map { index, element in
            try input(element, given.array == nil ? "input" : "input[\(index)]", isImage: areImages)
        }
    }

    private func input(_ json: JSON, _ name: String, isImage: Bool) throws -> Input {
        switch json {
        case .string(let text):
            return isImage || text.hasPrefix("data:image/") ? .image(try picture(text, name)) : .text(text)
        case .object(let members):
            guard members.count == 1, let text = members[0].value.string, ["text", "image"].contains(members[0].key)
            else {
                throw Refusal(400, "\(name) is an object, but not {\"text\": …} or {\"image\": …}.", parameter: name)
            }
            return members[0].key == "text" ? .text(text) : .image(try picture(text, name))
        case .integer, .array:
            throw Refusal(
                400,
                "\(name) looks like token ids, which mean nothing to another tokenizer: send the text itself "
                    + "(LangChain: check_embedding_ctx_length=False).", parameter: name)
        default:
            throw Refusal(400, "\(name) is neither a string nor an object.", parameter: name)
        }
    }

    /// The picture file in a `data:` URI or in plain Base64.
    private func picture(_ text: String, _ name: String) throws -> [UInt8] {
        var encoded = text[...]
        if text.hasPrefix("http://") || text.hasPrefix("https://") {
            throw Refusal(
                400, "\(name) is an address, and this server fetches nothing: send the picture itself, in Base64.",
                parameter: name)
        }
        if text.hasPrefix("data:") {
            guard let comma = text.firstIndex(of: ","), text[..<comma].hasSuffix(";base64") else {
                throw Refusal(400, "\(name) is not a data URI in Base64 (data:image/…;base64,…).", parameter: name)
            }
            encoded = text[comma...].dropFirst()
        }
        guard let bytes = Base64.decode(encoded) else {
            throw Refusal(400, "\(name) is not Base64.", parameter: name)
        }
        return bytes
    }

    /// A row for each input, and how many tokens its texts had.
    private func embed(_ inputs: [Input], _ settings: Settings) async throws -> (rows: [ArraySlice<Float>], tokens: Int)
    {
        var texts: [(index: Int, text: String)] = []
        var files: [(index: Int, bytes: [UInt8])] = []
        for (index, input) in inputs.enumerated() {
            switch input {
            case .text(let text): texts.append((index, text))
            case .image(let bytes): files.append((index, bytes))
            }
        }
        var rows = [ArraySlice<Float>](repeating: [], count: inputs.count)
        func keep(_ embeddings: Embeddings, _ indices: some Sequence<Int>) {
            let embeddings = settings.normalizes ? embeddings.normalized() : embeddings
            for (row, index) in indices.enumerated() { rows[index] = embeddings[row] }
        }
        let tokens = try tokenized(texts, truncate: settings.truncates)
        if !texts.isEmpty { keep(try await service.encodeText(tokens), texts.map(\.index)) }
        for start in stride(from: 0, to: files.count, by: picturesAtOnce) {
            let part = Array(files[start..<min(start + picturesAtOnce, files.count)])
            keep(try await service.encodeImage(decoded(part)), part.map(\.index))
        }
        if let index = rows.firstIndex(where: { !$0.allSatisfy(\.isFinite) }) {
            throw Refusal(500, "The device computed numbers for input \(index) that are not finite.")
        }
        return (rows, tokens.ids.reduce(0) { $0 + $1.count })
    }

    private func tokenized(_ texts: [(index: Int, text: String)], truncate: Bool) throws -> TokenizedText {
        do {
            return try service.tokenize(texts.map(\.text), truncate: truncate)
        } catch {
            // Which of them it was.
            for (index, text) in texts {
                do {
                    _ = try service.tokenize([text], truncate: truncate)
                } catch let error as CLIPError {
                    throw Refusal(400, "input[\(index)]: \(error.description)", parameter: "input")
                }
            }
            throw error
        }
    }

    /// Decodes pictures side by side.
    private func decoded(_ files: [(index: Int, bytes: [UInt8])]) async throws -> [PreprocessedImage] {
        try await withThrowingTaskGroup(of: (Int, PreprocessedImage).self) { group in
            for (position, file) in files.enumerated() {
                group.addTask { [service] in
                    (position, try service.preprocess(file.bytes, name: "input[\(file.index)]"))
                }
            }
            var images = [PreprocessedImage?](repeating: nil, count: files.count)
            for try await (position, image) in group { images[position] = image }
            return images.compactMap { $0 }
        }
    }

    // MARK: About the server

    private var models: String {
        let information = service.information
        var facts = [
            "\"dimension\": \(information.embeddingDimension)", "\"image_size\": \(information.imageSize)",
            "\"context_length\": \(information.contextLength)", "\"logit_scale\": \(information.logitScale)",
        ]
        if let bias = information.logitBias { facts.append("\"logit_bias\": \(bias)") }
        return "{\"object\": \"list\", \"data\": [{\"id\": \(JSONText.quoted(names[0])), \"object\": \"model\", "
            + "\"owned_by\": \"clip-gpu\", \(facts.joined(separator: ", "))}]}\n"
    }

    /// In Prometheus' text format.
    private var metrics: String {
        let statistics = service.statistics
        var text = ""
        func metric(_ name: String, _ type: String, _ help: String, _ values: [(labels: String, value: String)]) {
            text += "# HELP clip_gpu_\(name) \(help)\n# TYPE clip_gpu_\(name) \(type)\n"
            for (labels, value) in values { text += "clip_gpu_\(name)\(labels) \(value)\n" }
        }
        metric(
            "requests_total", "counter", "Requests answered, by status.",
            answered.withLock { $0 }.sorted { $0.key < $1.key }.map { ("{code=\"\($0.key)\"}", "\($0.value)") })
        metric(
            "inputs_total", "counter", "Inputs handed to the device.",
            [("{kind=\"image\"}", "\(statistics.images)"), ("{kind=\"text\"}", "\(statistics.texts)")])
        metric("batches_total", "counter", "Batches they were computed in.", [("", "\(statistics.batches)")])
        metric("waiting_inputs", "gauge", "Inputs that wait for the device.", [("", "\(statistics.waiting)")])
        metric(
            "device_busy_seconds_total", "counter", "Seconds that each device has spent computing.",
            statistics.busySeconds.enumerated().map { ("{device=\"\($0.offset)\"}", "\($0.element)") })
        return text
    }
}

/// A request that is not fulfilled: a status and a sentence, in the form of OpenAI's errors.
private struct Refusal: Error {
    let status: Int
    let message: String
    let parameter: String?
    let code: String?

    init(_ status: Int, _ message: String, parameter: String? = nil, code: String? = nil) {
        self.status = status
        self.message = message
        self.parameter = parameter
        self.code = code
    }

    var response: HTTPResponse {
        let type = status >= 500 ? "server_error" : "invalid_request_error"
        return HTTPResponse(
            status: status,
            body: "{\"error\": {\"message\": \(JSONText.quoted(message)), \"type\": \"\(type)\", "
                + "\"param\": \(parameter.map(JSONText.quoted) ?? "null"), "
                + "\"code\": \(code.map(JSONText.quoted) ?? "null")}}\n")
    }
}
