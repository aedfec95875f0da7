// What clients are told, without a socket: the demonstration model's vectors, and a sentence for each wrong request.

import CLIPGPU
import CLIPServer
import Foundation
import Synchronization
import TestSupport
import Testing

private let samples =
    URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().path + "/tools/samples/"

private func file(_ name: String) throws -> [UInt8] {
    Array(try Data(contentsOf: URL(fileURLWithPath: samples + name)))
}

private func api(names: [String] = ["demo", "/models/demo"], mostWaiting: Int = 100) throws -> EmbeddingAPI {
    EmbeddingAPI(CLIPService(try CLIP.load(device: .cpu)), names: names, mostWaiting: mostWaiting)
}

private func post(_ api: EmbeddingAPI, _ body: String, type: String? = "application/json") async -> HTTPResponse {
    await api.respond(
        to: HTTPRequest(method: "POST", path: "/v1/embeddings", contentType: type, body: Array(body.utf8)))
}

private func object(_ response: HTTPResponse) throws -> [String: Any] {
    try #require(JSONSerialization.jsonObject(with: Data(response.body.utf8)) as? [String: Any])
}

/// The vectors of an answer, in the order of their indices.
private func vectors(_ response: HTTPResponse) throws -> [[Float]] {
    try #require(response.status == 200, "\(response.body)")
    let data = try #require(object(response)["data"] as? [[String: Any]])
    #expect(data.map { $0["index"] as? Int } == Array(0..<data.count))
    return try data.map { entry in
        if let text = entry["embedding"] as? String {
            let bytes = try #require(Data(base64Encoded: text))
            return stride(from: 0, to: bytes.count, by: 4).map { start in
                Float(bitPattern: (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[start + $1]) << (8 * $1) })
            }
        }
        return try #require(entry["embedding"] as? [Double]).map(Float.init)
    }
}

@Suite("The embeddings API")
struct EmbeddingAPITests {
    @Test("Sentences and pictures in every form get the library's vectors, in their order, of unit length or raw")
    func rows() async throws {
        let clip = try CLIP.load(device: .cpu)
        let texts = try clip.encodeText(clip.tokenize(["a red circle", "two blue squares"]))
        let picture = try file("astronaut.jpg")
        let image = try clip.encodeImage([clip.preprocess(picture)])
        let expected = [texts.normalized()[0], image.normalized()[0], texts.normalized()[1], image.normalized()[0]]
            .map(Array.init)
        let encoded = Data(picture).base64EncodedString()
        let inputs =
            "[\"a red circle\", {\"image\": \"\(encoded)\"}, {\"text\": \"two blue squares\"}, \"data:image/jpeg;base64,\(encoded)\"]"

        let api = try api()
        #expect(try vectors(await post(api, "{\"model\": \"demo\", \"input\": \(inputs)}")) == expected)
        let base64 = await post(api, "{\"input\": \(inputs), \"encoding_format\": \"base64\", \"user\": \"x\"}")
        #expect(try vectors(base64) == expected)
        let raw = await post(api, "{\"input\": \"a red circle\", \"normalize\": false, \"dimensions\": 96}")
        #expect(try vectors(raw) == [Array(texts[0])])
        let modality = await post(api, "{\"input\": [\"\(encoded)\"], \"modality\": \"image\"}")
        #expect(try vectors(modality) == [expected[1]])
        let upload = await api.respond(
            to: HTTPRequest(method: "POST", path: "/v1/embeddings/", contentType: "image/jpeg", body: picture))
        #expect(try vectors(upload) == [expected[1]])

        let answer = try object(await post(api, "{\"input\": [\"a red circle\", \"\"], \"model\": \"/models/demo\"}"))
        #expect(answer["model"] as? String == "demo" && answer["object"] as? String == "list")
        // Three words and both ends; both ends.
        #expect((answer["usage"] as? [String: Any])?["prompt_tokens"] as? Int == 7)
    }

    @Test("More pictures than are decoded at a time keep their order")
    func manyPictures() async throws {
        let files = try ["astronaut.jpg", "chelsea.jpg", "red-circle.png"].map(file)
        let list = (0..<70).map { "{\"image\": \"\(Data(files[$0 % 3]).base64EncodedString())\"}" }
        let rows = try vectors(await post(api(), "{\"input\": [\(list.joined(separator: ", "))]}"))
        #expect(rows.count == 70)
        #expect(Set(rows).count == 3)
        for index in rows.indices { #expect(rows[index] == rows[index % 3]) }
    }

    @Test(
        "A wrong request gets one sentence that names what is wrong",
        arguments: [
            ("", 400, "not JSON"), ("{\"input\": \"a\"", 400, "not JSON"), ("[]", 400, "not an object"),
            ("{}", 400, "\"input\" is missing"), ("{\"input\": null}", 400, "\"input\" is missing"),
            ("{\"input\": []}", 400, "\"input\" is empty"), ("{\"inputs\": \"a\"}", 400, "\"inputs\" is unknown"),
            ("{\"input\": [1, 2]}", 400, "input[0] looks like token ids"),
            ("{\"input\": [\"a\", [1]]}", 400, "input[1] looks like token ids"),
            ("{\"input\": true}", 400, "input is neither a string nor an object"),
            ("{\"input\": {\"image\": \"AAA!\"}}", 400, "input is not Base64"),
            ("{\"input\": {\"image\": \"aGVsbG8=\"}}", 400, "input[0]: "),
            ("{\"input\": [{\"picture\": \"\"}]}", 400, "input[0] is an object, but not"),
            ("{\"input\": [{\"image\": \"https://example.org/a.jpg\"}]}", 400, "fetches nothing"),
            ("{\"input\": \"data:image/png,xyz\"}", 400, "not a data URI in Base64"),
            ("{\"input\": \"a\", \"model\": \"ViT-B/32\"}", 404, "this server has \"demo\""),
            ("{\"input\": \"a\", \"dimensions\": 512}", 400, "96 dimensions"),
            ("{\"input\": \"a\", \"encoding_format\": \"hex\"}", 400, "\"float\" or \"base64\""),
            ("{\"input\": \"a\", \"truncate\": 1}", 400, "\"truncate\" takes true or false"),
            ("{\"input\": \"a\", \"modality\": \"audio\"}", 400, "\"modality\" takes"),
        ])
    func wrong(_ body: String, _ status: Int, _ words: String) async throws {
        let response = try await post(api(), body)
        #expect(response.status == status)
        let error = try #require(object(response)["error"] as? [String: Any])
        #expect((error["message"] as? String)?.contains(words) == true, "\(error)")
        #expect(error["type"] as? String == "invalid_request_error")
    }

    @Test("A text that is too long is named, and cut where that is asked for")
    func longText() async throws {
        let long = String(repeating: "word ", count: 90)
        let api = try api()
        let refused = await post(api, "{\"input\": [\"a\", \"\(long)\"]}")
        #expect(refused.status == 400 && refused.body.contains("input[1]: "))
        #expect(try vectors(await post(api, "{\"input\": [\"a\", \"\(long)\"], \"truncate\": true}")).count == 2)
        let list = [String](repeating: "\"a\"", count: 2049).joined(separator: ",")
        let many = await post(api, "{\"input\": [\(list)]}")
        #expect(many.status == 400 && many.body.contains("2049 inputs"))
    }

    @Test(
        "Paths, methods and types that are not there are refused by status; the others tell of the model and its work")
    func routes() async throws {
        let api = try api()
        func status(_ method: String, _ path: String, _ type: String? = nil) async -> Int {
            await api.respond(to: HTTPRequest(method: method, path: path, contentType: type)).status
        }
        #expect(await status("GET", "/health") == 200)
        #expect(await status("POST", "/health") == 405)
        #expect(await status("GET", "/v1/embeddings") == 405)
        #expect(await status("GET", "/") == 404)
        #expect(await status("POST", "/v1/embeddings", "text/html") == 415)
        _ = try vectors(await post(api, "{\"input\": [\"a\", \"b\"]}", type: nil))

        let models = try object(await api.respond(to: HTTPRequest(method: "GET", path: "/v1/models")))
        let model = try #require((models["data"] as? [[String: Any]])?.first)
        #expect(model["id"] as? String == "demo" && model["dimension"] as? Int == 96)

        let metrics = await api.respond(to: HTTPRequest(method: "GET", path: "/metrics")).body
        for line in [
            "clip_gpu_requests_total{code=\"200\"} 3", "clip_gpu_requests_total{code=\"405\"} 2",
            "clip_gpu_inputs_total{kind=\"text\"} 2", "clip_gpu_inputs_total{kind=\"image\"} 0",
            "clip_gpu_batches_total 1", "clip_gpu_waiting_inputs 0",
        ] { #expect(metrics.contains(line + "\n"), "\(line) is not in\n\(metrics)") }
        let busy = metrics.firstMatch(of: /clip_gpu_device_busy_seconds_total{device="0"} ([0-9.]+)\n/)?.1
        #expect(try #require(busy.flatMap { Double($0) }) > 0)
    }

    @Test("While too many inputs wait, a request is told to come again")
    func overload() async throws {
        let service = CLIPService(try CLIP.load(device: .cpu))
        let api = EmbeddingAPI(service, names: ["demo"], mostWaiting: 2)
        let held = try await HeldService(service)
        async let first = post(api, "{\"input\": [\"a\", \"b\", \"c\"]}")
        while service.statistics.waiting < 3 { try await Task.sleep(for: .milliseconds(1)) }
        let second = await post(api, "{\"input\": \"a\"}")
        #expect(second.status == 503 && second.fields.contains { $0.name == "retry-after" })
        held.release()
        #expect(await first.status == 200)
        #expect(await post(api, "{\"input\": \"a\"}").status == 200)
    }

    @Test("Base64: every length there and back, and what is none")
    func base64() throws {
        for length in 0..<70 {
            let bytes = (0..<length).map { UInt8(truncatingIfNeeded: $0 * 37 + length) }
            let text = Data(bytes).base64EncodedString()
            #expect(bytes.withUnsafeBytes { Base64.encode($0) } == text)
            #expect(Base64.decode(text[...]) == bytes)
            #expect(Base64.decode(text[...].prefix { $0 != "=" }) == bytes)
        }
        #expect(Base64.decode("_-8=") == Base64.decode("/+8="))
        #expect(Base64.decode("aGVs\r\nbG8=") == Array("hello".utf8))
        for wrong in ["a", "aGVsbG8==", "aGVsbG8=a", "aGV*", "=", "aGVs=", "é"] {
            #expect(Base64.decode(wrong[...]) == nil)
        }
    }
}
