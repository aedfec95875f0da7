// Downloads from a server that behaves, and from many that do not: what arrives is right or is not there.

import CLIPHub
import CLIPModel
import Checkpoints
import Foundation
import Synchronization
import Testing

/// A folder of its own for one test, and settings that keep everything in it.
private func withHub(
    _ answer: @escaping @Sendable (Request, TestServer.Addresses) -> Reply,
    _ body: (TestServer, HubSettings, String) throws -> Void
) throws {
    let folder = FileManager.default.temporaryDirectory.path + "/clip-gpu-hub-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let server = try TestServer(answer)
    defer { server.stop() }
    var settings = HubSettings { ["HOME": folder, "HF_TOKEN": "secret"][$0] }
    settings.endpoint = server.addresses.own
    settings.openAIEndpoint = server.addresses.own + "/openai"
    settings.retryDelay = 0.01
    settings.attempts = 3
    try body(server, settings, folder)
}

private let large = (0..<300_000).map { UInt8(truncatingIfNeeded: ($0 &* $0 &* 7) >> 3) }
private let config = Array(
    "{\"model_type\": \"clip\", \"vision_config\": {\"image_size\": 28}, \"text_config\": {}}".utf8)
private let hub = TestHub([
    "config.json": config, "preprocessor_config.json": Array("{\"do_resize\": true}".utf8), "model.safetensors": large,
    "pytorch_model.bin": Array(large.reversed()), "README.md": [1],
])
private let name = "hf:owner/name"

/// Every path under a folder that is no folder, from there on.
private func paths(_ folder: String) -> [String] {
    let names = FileManager.default.enumerator(atPath: folder)?.compactMap { $0 as? String } ?? []
    return names.filter { path in
        var isFolder: ObjCBool = false
        let exists = FileManager.default.fileExists(atPath: folder + "/" + path, isDirectory: &isFolder)
        return !(exists && isFolder.boolValue)
    }.sorted()
}

private func bytes(_ path: String) -> [UInt8]? { FileManager.default.contents(atPath: path).map { Array($0) } }

private let cache = ".cache/huggingface/hub/models--owner--name"

@Suite("Downloads")
struct DownloadTests {
    @Test("A repository lies in the cache as huggingface_hub lays it, and is found there without a request")
    func layout() throws {
        try withHub({ hub.answer($0, otherAddress: $1.other) }) { server, settings, folder in
            let model = try ModelHub(settings).resolve(ModelName(name)) { _ in }
            let place = folder + "/" + cache
            let snapshot = place + "/snapshots/" + TestHub.commit
            #expect(model.path == snapshot)
            #expect(
                try FileManager.default.contentsOfDirectory(atPath: snapshot).sorted() == [
                    "config.json", "model.safetensors", "preprocessor_config.json",
                ])
            #expect(
                try FileManager.default.destinationOfSymbolicLink(atPath: snapshot + "/model.safetensors")
                    == "../../blobs/" + sha256(large))
            #expect(
                try FileManager.default.destinationOfSymbolicLink(atPath: snapshot + "/config.json")
                    == "../../blobs/" + gitBlob(config))
            #expect(bytes(snapshot + "/model.safetensors") == large)
            #expect(bytes(place + "/refs/main") == Array(TestHub.commit.utf8))
            #expect(bytes(place + "/.no_exist/\(TestHub.commit)/tokenizer.json") == [])
            #expect(!paths(place).contains { $0.hasSuffix(".incomplete") || $0.hasSuffix(".tmp") })

            let count = server.requests.count
            #expect(try ModelHub(settings).resolve(ModelName(name)) { _ in }.path == snapshot)
            #expect(server.requests.count == count)
            // Asked for again, only the list is read.
            _ = try ModelHub(settings).download(ModelName(name)) { _ in }
            #expect(server.requests.count == count + 1)
            let listed = try #require(ModelHub(settings).list().first { $0.name == name })
            #expect(listed.path == snapshot && listed.imageSize == 28 && (listed.size ?? 0) > large.count)
        }
    }

    @Test("A connection that breaks is taken up where it broke, and the bytes are right")
    func dropped() throws {
        try withHub({ request, addresses in
            var reply = hub.answer(request, otherAddress: addresses.other)
            if request.path == "/cdn/model.safetensors" { reply.sends = 70_000 }
            return reply
        }) { server, settings, _ in
            let model = try ModelHub(settings).resolve(ModelName(name)) { _ in }
            #expect(bytes(model.path + "/model.safetensors") == large)
            let starts = server.requests.filter { $0.path.hasPrefix("/cdn/") }.map { $0.rangeStart ?? 0 }
            #expect(starts == [0, 70_000, 140_000, 210_000, 280_000])
            let later = server.requests.filter { $0.rangeStart != nil && $0.path.hasPrefix("/cdn/") }
            #expect(later.allSatisfy { $0.fields["if-range"] == "\"of the other host\"" })
        }
    }

    @Test("A file that changes between two attempts comes whole and is verified")
    func changed() throws {
        let tries = Mutex(0)
        try withHub({ request, addresses in
            guard request.path == "/cdn/model.safetensors" else {
                return hub.answer(request, otherAddress: addresses.other)
            }
            let count = tries.withLock { tries in
                tries += 1
                return tries
            }
            if count == 1 {
                var reply = Reply.file([UInt8](repeating: 9, count: large.count), request, tag: "old")
                reply.sends = 100_000
                return reply
            }
            // The tag that the client remembers is another, so the range does not count.
            #expect(request.fields["if-range"] == "\"old\"")
            return Reply(fields: ["ETag": "\"new\""], body: large)
        }) { _, settings, _ in
            let model = try ModelHub(settings).resolve(ModelName(name)) { _ in }
            #expect(bytes(model.path + "/model.safetensors") == large)
        }
    }

    @Test("What an earlier attempt left of another file does not get in", arguments: [1000, 300_000, 400_000])
    func stale(count: Int) throws {
        try withHub({ hub.answer($0, otherAddress: $1.other) }) { _, settings, folder in
            let blobs = folder + "/" + cache + "/blobs"
            try FileManager.default.createDirectory(atPath: blobs, withIntermediateDirectories: true)
            let left = Data(repeating: 3, count: count)
            try left.write(to: URL(fileURLWithPath: blobs + "/" + sha256(large) + ".incomplete"))
            let model = try ModelHub(settings).resolve(ModelName(name)) { _ in }
            #expect(bytes(model.path + "/model.safetensors") == large)
        }
    }

    @Test("A server that refuses ranges sends all of it again")
    func noRanges() throws {
        let tries = Mutex(0)
        try withHub({ request, addresses in
            guard request.path == "/cdn/model.safetensors" else {
                return hub.answer(request, otherAddress: addresses.other)
            }
            let isFirst = tries.withLock { tries in
                tries += 1
                return tries == 1
            }
            return Reply(body: large, sends: isFirst ? 90_000 : nil)
        }) { _, settings, _ in
            let model = try ModelHub(settings).resolve(ModelName(name)) { _ in }
            #expect(bytes(model.path + "/model.safetensors") == large)
        }
    }

    @Test(
        "Wrong bytes and wrong lengths are refused, and nothing is left under the final name",
        arguments: [
            "bytes", "longer", "shorter", "announced longer", "announced shorter",
        ])
    func lies(kind: String) throws {
        try withHub({ request, addresses in
            guard request.path == "/cdn/model.safetensors" else {
                return hub.answer(request, otherAddress: addresses.other)
            }
            var wrong = large
            wrong[250_000] ^= 1
            return switch kind {
            case "bytes": .file(wrong, request)
            case "longer": Reply(body: large + [1])
            case "shorter": Reply(body: Array(large.dropLast()))
            case "announced longer": Reply(body: large, sends: large.count, announces: large.count + 10)
            default: Reply(body: large, announces: large.count - 10)
            }
        }) { _, settings, folder in
            let error = #expect(throws: HubError.self) {
                try ModelHub(settings).resolve(ModelName(name)) { _ in }
            }
            #expect(error?.kind == .model)
            let says = kind == "bytes" ? "SHA-256" : "is published with 300000 bytes"
            #expect(error?.description.contains(says) == true, "\(error?.description ?? "")")
            let left = paths(folder + "/" + cache)
            #expect(!left.contains { $0.hasSuffix("/model.safetensors") || $0.hasSuffix(sha256(large)) })
            #expect(!left.contains { $0.hasPrefix("refs") })
            if kind == "bytes" { #expect(!left.contains { $0.hasSuffix(".incomplete") }) }
        }
    }

    @Test("A small file is verified by git's name for it")
    func smallLie() throws {
        try withHub({ request, addresses in
            var reply = hub.answer(request, otherAddress: addresses.other)
            if request.method == "GET", request.path.hasSuffix("/config.json") { reply.body[2] ^= 1 }
            return reply
        }) { _, settings, folder in
            let error = #expect(throws: HubError.self) {
                try ModelHub(settings).resolve(ModelName(name)) { _ in }
            }
            #expect(error?.description.contains("git's SHA-1") == true)
        }
    }

    @Test("The token goes to the hub, and not to where it redirects")
    func token() throws {
        try withHub({ hub.answer($0, otherAddress: $1.other) }) { server, settings, _ in
            _ = try ModelHub(settings).resolve(ModelName(name)) { _ in }
            let (other, own) = (
                server.requests.filter { $0.path.hasPrefix("/cdn/") },
                server.requests.filter { !$0.path.hasPrefix("/cdn/") }
            )
            #expect(other.count == 1 && own.count == 7)
            #expect(own.allSatisfy { $0.fields["authorization"] == "Bearer secret" })
            #expect(
                other.allSatisfy {
                    $0.fields["authorization"] == nil && $0.fields["host"]?.hasPrefix("localhost") == true
                })
        }
    }

    @Test("Nor to another port, nor to a name that only begins like the hub's")
    func tokenElsewhere() throws {
        let others = try TestServer { request, _ in .file(large, request) }
        defer { others.stop() }
        for place in ["http://127.0.0.1:\(others.port)", "http://127.0.0.1@localhost:\(others.port)"] {
            try withHub({ request, _ in hub.answer(request, otherAddress: place) }) { _, settings, _ in
                _ = try ModelHub(settings).resolve(ModelName(name)) { _ in }
            }
        }
        #expect(others.requests.count == 2)
        #expect(others.requests.allSatisfy { $0.fields["authorization"]?.contains("secret") != true })
    }

    @Test(
        "Redirects without end, and to nowhere, are refused",
        arguments: ["/again", "", "file:///etc/passwd", "ftp://x/y"])
    func redirects(place: String) throws {
        try withHub({ _, _ in Reply(status: 302, fields: place.isEmpty ? [:] : ["Location": place]) }) {
            server, settings, _ in
            #expect(throws: HubError.self) { try ModelHub(settings).resolve(ModelName(name)) { _ in } }
            #expect(server.requests.count == (place == "/again" ? 11 : 1))
        }
    }

    @Test(
        "Refusals say what they mean, and only failures of the server are repeated, a few times",
        arguments: [
            (401, "does not know the token", 1), (403, "gated", 1), (404, "nothing of that name", 1),
            (418, "the server refused", 1), (500, "try again later", 3), (503, "try again later", 3),
            (429, "fewer requests", 3),
        ])
    func statuses(status: Int, says: String, requests: Int) throws {
        try withHub({ _, _ in Reply(status: status, body: Array("<html>".utf8)) }) { server, settings, _ in
            let error = #expect(throws: HubError.self) { try ModelHub(settings).resolve(ModelName(name)) { _ in } }
            #expect(error?.kind == .model)
            #expect(error?.description.contains(says) == true, "\(error?.description ?? "")")
            #expect(error?.description.contains("HTTP \(status)") == true)
            #expect(server.requests.count == requests)
        }
    }

    @Test("A server that fails once is asked again")
    func failsOnce() throws {
        let seen = Mutex<Set<String>>([])
        try withHub({ request, addresses in
            let isFirst = seen.withLock { $0.insert(request.method + request.path).inserted }
            return isFirst ? Reply(status: 503) : hub.answer(request, otherAddress: addresses.other)
        }) { _, settings, _ in
            let model = try ModelHub(settings).resolve(ModelName(name)) { _ in }
            #expect(bytes(model.path + "/model.safetensors") == large)
        }
    }

    @Test("A connection that never brings anything is given up")
    func nothing() throws {
        try withHub({ request, addresses in
            var reply = hub.answer(request, otherAddress: addresses.other)
            if request.path.hasPrefix("/cdn/") { reply.sends = 0 }
            return reply
        }) { server, settings, _ in
            #expect(throws: HubError.self) { try ModelHub(settings).resolve(ModelName(name)) { _ in } }
            #expect(server.requests.filter { $0.path.hasPrefix("/cdn/") }.count == 3)
        }
    }

    @Test("Offline, nothing is asked, and what is here is found")
    func offline() throws {
        try withHub({ hub.answer($0, otherAddress: $1.other) }) { server, settings, folder in
            var offline = settings
            offline.isOffline = true
            let error = #expect(throws: HubError.self) { try ModelHub(offline).resolve(ModelName(name)) { _ in } }
            #expect(error?.description.contains("HF_HUB_OFFLINE") == true)
            #expect(server.requests.isEmpty)
            let path = try ModelHub(settings).resolve(ModelName(name)) { _ in }.path
            // As another tool leaves it that looked at fewer files.
            try FileManager.default.removeItem(atPath: folder + "/" + cache + "/.no_exist")
            #expect(try ModelHub(offline).resolve(ModelName(name)) { _ in }.path == path)
            let count = server.requests.count
            #expect(try ModelHub(settings).resolve(ModelName(name)) { _ in }.path == path)
            #expect(server.requests.count == count + 1)  // whether there is more, asked once
        }
    }

    @Test("Half a snapshot is not a model")
    func half() throws {
        try withHub({ hub.answer($0, otherAddress: $1.other) }) { _, settings, folder in
            let path = try ModelHub(settings).resolve(ModelName(name)) { _ in }.path
            try FileManager.default.removeItem(atPath: folder + "/" + cache + "/blobs/" + sha256(large))
            #expect(ModelHub(settings).local(try ModelName(name)) == nil)
            #expect(
                bytes(try ModelHub(settings).resolve(ModelName(name)) { _ in }.path + "/model.safetensors") == large)
            #expect(bytes(path + "/model.safetensors") == large)
        }
    }

    private struct Stop: Error {}

    @Test("Who stops a download finds what arrived, and goes on from there")
    func stopped() throws {
        try withHub({ request, addresses in
            var reply = hub.answer(request, otherAddress: addresses.other)
            if request.path.hasPrefix("/cdn/"), request.rangeStart == nil { reply.sends = 120_000 }
            return reply
        }) { server, settings, folder in
            #expect(throws: Stop.self) {
                try ModelHub(settings).resolve(ModelName(name)) { if $0.bytes >= 120_000 { throw Stop() } }
            }
            #expect(bytes(folder + "/\(cache)/blobs/\(sha256(large)).incomplete")?.count == 120_000)
            let model = try ModelHub(settings).resolve(ModelName(name)) { _ in }
            #expect(bytes(model.path + "/model.safetensors") == large)
            #expect(server.requests.filter { $0.path.hasPrefix("/cdn/") }.map { $0.rangeStart ?? 0 } == [0, 120_000])
        }
    }

    @Test("Several that fetch the same fetch it once")
    func together() throws {
        try withHub({ request, addresses in
            if request.path.hasPrefix("/cdn/") { Thread.sleep(forTimeInterval: 0.3) }
            return hub.answer(request, otherAddress: addresses.other)
        }) { server, settings, _ in
            let paths = Mutex<[String]>([])
            DispatchQueue.concurrentPerform(iterations: 4) { _ in
                let path = try? ModelHub(settings).resolve(ModelName(name)) { _ in }.path
                paths.withLock { $0.append(path ?? "none") }
            }
            let found = paths.withLock { $0 }
            #expect(Set(found).count == 1)
            #expect(bytes((found.first ?? "") + "/model.safetensors") == large)
            #expect(server.requests.filter { $0.path.hasPrefix("/cdn/") }.count == 1)
        }
    }

    @Test(
        "Where links are not wanted, the files themselves stand in the snapshot, moved, or copied where they were there"
    )
    func noLinks() throws {
        try withHub({ hub.answer($0, otherAddress: $1.other) }) { server, settings, folder in
            let place = folder + "/" + cache
            // What another program has fetched may be in use there.
            let blob = place + "/blobs/" + gitBlob(config)
            try FileManager.default.createDirectory(atPath: place + "/blobs", withIntermediateDirectories: true)
            try Data(config).write(to: URL(fileURLWithPath: blob))
            var settings = HubSettings { ["HOME": folder, "HF_HUB_DISABLE_SYMLINKS": "1"][$0] }
            settings.endpoint = server.addresses.own
            let path = try ModelHub(settings).resolve(ModelName(name)) { _ in }.path
            for (file, content) in [("config.json", config), ("model.safetensors", large)] {
                let attributes = try FileManager.default.attributesOfItem(atPath: path + "/" + file)
                #expect(attributes[.type] as? FileAttributeType == .typeRegular)
                #expect(bytes(path + "/" + file) == content)
            }
            #expect(paths(place + "/blobs") == [gitBlob(config)])
            #expect(!paths(place).contains { $0.hasSuffix(".tmp") })
            let count = server.requests.count
            #expect(try ModelHub(settings).resolve(ModelName(name)) { _ in }.path == path)
            #expect(server.requests.count == count)
        }
    }

    @Test("Where a link cannot be made, the file itself stands in the snapshot")
    func linkFails() throws {
        // A link is made under another name first, which is here longer than names may be.
        let shard = String(repeating: "x", count: 240) + ".safetensors"
        let hub = TestHub([
            "config.json": config,
            "model.safetensors.index.json": Array("{\"weight_map\": {\"a\": \"\(shard)\"}}".utf8),
            shard: large,
        ])
        try withHub({ hub.answer($0, otherAddress: $1.other) }) { _, settings, folder in
            let path = try ModelHub(settings).resolve(ModelName(name)) { _ in }.path
            #expect(bytes(path + "/" + shard) == large)
            #expect(!paths(folder + "/" + cache + "/blobs").contains(sha256(large)))
            #expect(ModelHub(settings).local(try ModelName(name))?.path == path)
        }
    }

    @Test(
        "Where there are no locks, each fetches into a file of its own",
        arguments: [ENOLCK, EOPNOTSUPP, EINVAL, ENOSYS])
    func noLocks(code: Int32) throws {
        try withHub({ request, addresses in
            if request.path.hasPrefix("/cdn/") { Thread.sleep(forTimeInterval: 0.3) }
            return hub.answer(request, otherAddress: addresses.other)
        }) { server, settings, folder in
            var settings = settings
            settings.lock = { _, _ in
                errno = code
                return -1
            }
            // What another process may be writing at this moment.
            let blobs = folder + "/" + cache + "/blobs"
            let others = blobs + "/" + sha256(large) + ".incomplete"
            try FileManager.default.createDirectory(atPath: blobs, withIntermediateDirectories: true)
            try Data(large.prefix(1000)).write(to: URL(fileURLWithPath: others))
            let paths = Mutex<[String]>([])
            DispatchQueue.concurrentPerform(iterations: 4) { [settings] _ in
                let path = try? ModelHub(settings).resolve(ModelName(name)) { _ in }.path
                paths.withLock { $0.append(path ?? "none") }
            }
            let found = paths.withLock { $0 }
            #expect(Set(found).count == 1)
            #expect(bytes((found.first ?? "") + "/model.safetensors") == large)
            #expect(bytes(others) == Array(large.prefix(1000)))
            let left = try FileManager.default.contentsOfDirectory(atPath: blobs)
            #expect(left.filter { $0.hasSuffix(".incomplete") } == [sha256(large) + ".incomplete"])
        }
    }

    @Test("Without locks nothing is left of what failed")
    func noLocksFails() throws {
        try withHub({ request, addresses in
            var reply = hub.answer(request, otherAddress: addresses.other)
            if request.path.hasPrefix("/cdn/") { reply.sends = reply.body.isEmpty ? 0 : 1000 }
            return reply
        }) { _, settings, folder in
            var settings = settings
            settings.lock = { _, _ in
                errno = ENOLCK
                return -1
            }
            #expect(throws: Stop.self) {
                try ModelHub(settings).resolve(ModelName(name)) { if $0.bytes >= 1000 { throw Stop() } }
            }
            #expect(!paths(folder + "/" + cache).contains { $0.hasSuffix(".incomplete") })
        }
    }

    @Test("A cache that cannot be written still serves what it holds", arguments: [true, false])
    func readOnlyServes(isSettled: Bool) throws {
        try withHub({ hub.answer($0, otherAddress: $1.other) }) { _, settings, folder in
            let path = try ModelHub(settings).resolve(ModelName(name)) { _ in }.path
            let place = folder + "/" + cache
            if !isSettled {
                // As a tool leaves it that looked at fewer files; a file in a folder's place stops the system's
                // administrator too.
                try FileManager.default.removeItem(atPath: place + "/.no_exist")
                try Data().write(to: URL(fileURLWithPath: place + "/.no_exist"))
            }
            let locks = folder + "/.cache/huggingface/hub/.locks"
            try FileManager.default.removeItem(atPath: locks)
            try Data().write(to: URL(fileURLWithPath: locks))
            let folders = [place, place + "/blobs", place + "/refs", path]
            defer { for folder in folders { chmod(folder, 0o755) } }
            for folder in folders { chmod(folder, 0o555) }
            #expect(try ModelHub(settings).resolve(ModelName(name)) { _ in }.path == path)
            #expect(ModelHub(settings).list().contains { $0.path == path })
            #expect(bytes(path + "/model.safetensors") == large)
        }
    }

    @Test("A folder that cannot be written is another kind of error")
    func readOnly() throws {
        try withHub({ hub.answer($0, otherAddress: $1.other) }) { _, settings, folder in
            var settings = settings
            try Data().write(to: URL(fileURLWithPath: folder + "/file"))
            settings.hubCache = folder + "/file/hub"
            let error = #expect(throws: HubError.self) { try ModelHub(settings).resolve(ModelName(name)) { _ in } }
            #expect(error?.kind == .cache)
        }
    }

    @Test(
        "Answers that are no list of files are refused",
        arguments: [
            "", "{", "[]", "{\"sha\": \"main\", \"siblings\": []}", "{\"sha\": \"\(TestHub.commit)\"}",
            "{\"sha\": \"\(TestHub.commit)\", \"siblings\": [{\"rfilename\": \"../config.json\"}]}",
        ])
    func answers(text: String) throws {
        try withHub({ _, _ in Reply(body: Array(text.utf8)) }) { _, settings, folder in
            #expect(throws: HubError.self) { try ModelHub(settings).resolve(ModelName(name)) { _ in } }
        }
    }
}

@Suite("Which files make a model")
struct FileChoiceTests {
    private func names(_ files: [String: [UInt8]]) throws -> [String] {
        let hub = TestHub(files)
        var names: [String] = []
        try withHub({ hub.answer($0, otherAddress: $1.other) }) { _, settings, _ in
            let path = try ModelHub(settings).resolve(ModelName(name)) { _ in }.path
            names = try FileManager.default.contentsOfDirectory(atPath: path).sorted()
        }
        return names
    }

    @Test("All shards that an index names, and no way out of the folder")
    func shards() throws {
        let index = "{\"weight_map\": {\"a\": \"model-1.safetensors\", \"b\": \"model-2.safetensors\"}}"
        let files: [String: [UInt8]] = [
            "config.json": config, "model.safetensors.index.json": Array(index.utf8), "model-1.safetensors": large,
            "model-2.safetensors": Array(large.prefix(5000)), "pytorch_model.bin": [1],
        ]
        #expect(
            try names(files) == [
                "config.json", "model-1.safetensors", "model-2.safetensors", "model.safetensors.index.json",
            ])
        var evil = files
        evil["model.safetensors.index.json"] = Array("{\"weight_map\": {\"a\": \"../../../x\"}}".utf8)
        let error = #expect(throws: HubError.self) { try names(evil) }
        #expect(error?.description.contains("which the repository lacks") == true)
    }

    @Test("timm's repositories are open_clip's: their config.json names no model_type")
    func timm() throws {
        #expect(
            try names([
                "config.json": Array("{\"architecture\": \"vit\"}".utf8), "model.safetensors": [1],
                "open_clip_config.json": Array("{\"model_cfg\": {}}".utf8), "open_clip_model.safetensors": large,
                "open_clip_pytorch_model.bin": [2], "tokenizer.json": [3],
            ]) == ["config.json", "open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json"])
    }

    @Test("What holds no weights is refused by name")
    func none() {
        let error = #expect(throws: HubError.self) { try names(["config.json": config, "README.md": [1]]) }
        #expect(error?.description.contains("found README.md, config.json") == true)
    }
}

@Suite("Known weights")
struct KnownWeightsTests {
    @Test("OpenAI's files are verified by their SHA-256, and a truncated one is no model")
    func openAI() throws {
        try withHub({ request, _ in .file(large, request) }) { server, settings, folder in
            let name = try ModelName("ViT-B/32")
            let error = #expect(throws: HubError.self) { try ModelHub(settings).resolve(name) { _ in } }
            #expect(error?.description.contains("SHA-256") == true)
            #expect(
                server.requests.map(\.path) == [
                    "/openai/40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt"
                ])
            #expect(paths(folder + "/.cache/clip") == [".locks/ViT-B-32.pt.lock"])
            try Data(large).write(to: URL(fileURLWithPath: folder + "/.cache/clip/ViT-B-32.pt"))
            #expect(ModelHub(settings).local(name) == nil)
            // It stays until there is something better.
            #expect(throws: HubError.self) { try ModelHub(settings).download(name) { _ in } }
            #expect(bytes(folder + "/.cache/clip/ViT-B-32.pt") == large)
        }
    }

    @Test("open_clip's come with their configuration and their tokenizer")
    func openCLIP() throws {
        let clip = TestHub(
            ["open_clip_pytorch_model.bin": large, "config.json": config, "model.safetensors": [1]],
            repository: "laion/CLIP-ViT-B-32-laion2B-s34B-b79K")
        try withHub({ clip.answer($0, otherAddress: $1.other) }) { server, settings, folder in
            let name = try ModelName("ViT-B-32/laion2b_s34b_b79k")
            #expect(ModelHub(settings).local(name) == nil)
            let model = try ModelHub(settings).resolve(name) { _ in }
            #expect(model.path.hasSuffix("/open_clip_pytorch_model.bin"))
            #expect(bytes(model.path) == large)
            #expect(model.known?.configuration["model_cfg"]?["embed_dim"]?.integer == 512)
            #expect(model.known?.source == "known weights (open_clip's table)")
            #expect(model.tokenizerFolder == nil)
            #expect(!server.requests.contains { $0.path.hasSuffix("/config.json") })
            #expect(ModelHub(settings).local(name)?.path == model.path)
        }
    }

    @Test("A tokenizer of another repository is fetched with the weights")
    func tokenizer() throws {
        let weights = TestHub(
            ["open_clip_model.safetensors": large], repository: "UCSC-VLAA/ViT-L-14-CLIPA-datacomp1B")
        let bert = TestHub(["vocab.txt": [7], "model.safetensors": large], repository: "bert-base-uncased")
        try withHub({ request, addresses in
            let isBERT = request.path.contains("/bert-base-uncased/")
            return (isBERT ? bert : weights).answer(request, otherAddress: addresses.other)
        }) { _, settings, folder in
            let model = try ModelHub(settings).resolve(ModelName("ViT-L-14-CLIPA/datacomp1b")) { _ in }
            let place = try #require(model.tokenizerFolder)
            #expect(place.contains("/models--bert-base-uncased/snapshots/"))
            #expect(try FileManager.default.contentsOfDirectory(atPath: place) == ["vocab.txt"])
            #expect(ModelHub(settings).local(try ModelName("ViT-L-14-CLIPA/datacomp1b"))?.tokenizerFolder == place)
        }
    }

    @Test("A bare file of weights and what a table says of it are the model that a folder with both is")
    func opened() throws {
        let folder =
            URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path
            + "/CLIPModelTests/Fixtures/open-clip-plain"
        let file = try MappedFile(path: folder + "/open_clip_config.json")
        var options = ModelOptions()
        options.known = KnownWeights(configuration: try file.withBytes { try JSON(parsing: $0) }, source: "a table")
        let model = try ModelCheckpoint.open(path: folder + "/open_clip_model.safetensors", options: options)
        let expected = try ModelCheckpoint.open(path: folder)
        #expect(model.configuration.vision == expected.configuration.vision)
        #expect(model.configuration.text == expected.configuration.text)
        #expect(model.configuration.preprocessing == expected.configuration.preprocessing)
        #expect(model.configuration.facts.contains { $0.source.hasPrefix("a table model_cfg") })
        #expect(!model.configuration.facts.contains { $0.source.contains("open_clip_config.json") })
    }
}
