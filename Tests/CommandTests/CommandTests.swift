// The command as people run it: the binary that tools/build links, its output, its errors and its exit codes.

import Foundation
import Testing

private let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().path
private let binary = repository + "/.build/command/release/clip-gpu"
private let samples = repository + "/tools/samples"

/// What a run of the command left.
private struct Run {
    var status: Int32
    var output: String
    var errors: String
}

private func run(
    _ arguments: [String], input: String? = nil, environment: [String: String] = [:],
    interrupting: ((Process) -> Void)? = nil
) throws -> Run {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: binary)
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    let folder = NSTemporaryDirectory() + "clip-gpu-command-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    for name in ["in", "out", "err"] {
        try Data((name == "in" ? input ?? "" : "").utf8).write(to: URL(fileURLWithPath: folder + "/" + name))
    }
    let open = { (name: String) in FileHandle(forUpdatingAtPath: folder + "/" + name) }
    let pipe = Pipe()
    process.standardInput = interrupting == nil ? open("in") : pipe
    process.standardOutput = open("out")
    process.standardError = open("err")
    try process.run()
    interrupting?(process)  // It waits for standard input, which stays open.
    process.waitUntilExit()
    func text(_ name: String) throws -> String {
        String(decoding: try Data(contentsOf: URL(fileURLWithPath: folder + "/" + name)), as: UTF8.self)
    }
    return Run(status: process.terminationStatus, output: try text("out"), errors: try text("err"))
}

/// What a script of the shell leaves, which takes names of any bytes; arguments are $0 and on.
private func shell(_ script: String, _ arguments: [String]) throws -> Run {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = ["-c", script] + arguments
    let (output, errors) = (Pipe(), Pipe())
    process.standardOutput = output
    process.standardError = errors
    try process.run()
    // Neither is more than a pipe holds.
    let said = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    let written = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return Run(status: process.terminationStatus, output: written, errors: said)
}

private let formats = ["jsonl", "npy", "safetensors", "csv"]

/// A folder of its own for one test.
private func inFolder(_ body: (String) throws -> Void) throws {
    let path = NSTemporaryDirectory() + "clip-gpu-command-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: path) }
    try body(path)
}

@Suite("clip-gpu", .enabled(if: FileManager.default.fileExists(atPath: binary), "tools/build makes the binary"))
struct CommandTests {
    @Test("A limit of the address space, as clusters set it, leaves room to work")
    func addressSpace() throws {
        // Stacks of threads count, and there are some for each processor.
        let kibibytes = 600_000 + 20_000 * ProcessInfo.processInfo.processorCount
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments =
            ["-c", "ulimit -v \(kibibytes) && exec \"$0\" \"$@\"", binary, "embed"]
            + [String](repeating: samples, count: 12)  // several passes, so that lanes take memory too
            + ["--device", "cpu", "--threads", "2", "--output", "/dev/null", "--format", "jsonl"]
        let errors = Pipe()
        process.standardError = errors
        try process.run()
        let said = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(process.terminationReason == .exit && process.terminationStatus == 0, "\(said)")
    }

    @Test("The binary needs only the C and C++ run-time libraries")
    func linkage() throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/readelf")
        process.arguments = ["-d", binary]
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let listing = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        let needed = listing.split(separator: "\n").filter { $0.contains("(NEEDED)") }
            .compactMap { $0.split(separator: "[").last?.split(separator: "]").first.map(String.init) }
        let allowed: Set = [
            "libc.so.6", "libm.so.6", "libgcc_s.so.1", "libstdc++.so.6", "ld-linux-x86-64.so.2",
            "ld-linux-aarch64.so.1",
        ]
        #expect(!needed.isEmpty)
        #expect(Set(needed).subtracting(allowed).isEmpty)
    }

    @Test("Without OpenCL and BLAS it still computes on the CPU, and says what is missing")
    func noLibraries() throws {
        // An empty folder of OpenCL drivers stands for a machine that has none.
        try inFolder { folder in
            let result = try run(
                ["embed", "--text", "a red circle", "--device", "gpu"], environment: ["OCL_ICD_VENDORS": folder])
            #expect(result.status == 0)
            #expect(result.errors.contains("warning: --device gpu cannot be had"))
            #expect(result.errors.contains("using the CPU"))
            let strict = try run(
                ["embed", "--text", "a red circle", "--device", "gpu", "--strict-device"],
                environment: ["OCL_ICD_VENDORS": folder])
            #expect(strict.status == 3)
        }
    }

    @Test("embed: a row each, in order, inputs before texts; standard output carries data only")
    func embed() throws {
        let result = try run([
            "embed", samples + "/chelsea.jpg", "--text", "a red circle", "--text", "-x", "--device", "cpu",
        ])
        #expect(result.status == 0)
        let rows = result.output.split(separator: "\n")
        #expect(rows.count == 3)
        for row in rows { _ = try #require(JSONSerialization.jsonObject(with: Data(row.utf8)) as? [String: Any]) }
        #expect(rows[0].contains("chelsea.jpg\", \"kind\": \"image\""))
        #expect(rows[2].hasPrefix("{\"input\": \"-x\", \"kind\": \"text\""))
        #expect(result.errors.contains("model: built-in demonstration model"))
        #expect(result.errors.contains("device: cpu"))
    }

    /// How many OpenCL devices the command sees in this environment.
    private func openCLDevices(_ environment: [String: String]) throws -> Int {
        try run(["devices"], environment: environment).output.split(separator: "\n").filter { $0.hasPrefix("opencl:") }
            .count
    }

    @Test("Two devices of a kind share the work: the same bytes as from one, in the same order")
    func severalDevices() throws {
        // PoCL makes as many devices of the processor as it is told to.
        let environment = ["POCL_DEVICES": "pthread pthread"]
        guard try openCLDevices(environment) == openCLDevices(["POCL_DEVICES": "pthread"]) + 1 else { return }
        let last = try openCLDevices(environment) - 1
        let arguments =
            ["embed", repository + "/tools/samples", "--batch-size", "2"]
            + ["a", "b", "c d", "e f g"].flatMap { ["--text", $0] }
        let one = try run(arguments + ["--device", "opencl:\(last)"], environment: environment)
        let two = try run(arguments + ["--device", "opencl:\(last - 1),opencl:\(last)"], environment: environment)
        #expect(one.status == 0 && two.status == 0)
        #expect(one.output == two.output)
        #expect(two.errors.contains("device: opencl:\(last - 1)") && two.errors.contains("device: opencl:\(last) "))
        #expect(two.errors.contains("devices busy "))
    }

    @Test("The summary says how much of the time the device computed")
    func busy() throws {
        let result = try run(["embed", samples + "/chelsea.jpg", "--text", "a", "--device", "cpu"])
        let summary = try #require(result.errors.split(separator: "\n").last)
        let share = try #require(summary.firstMatch(of: /^embedded 2 in .* s, .*\/s, device busy (\d+) %$/))
        #expect(Int(share.1).map { (0...100).contains($0) } == true)
    }

    @Test("embed: one bad input is named, the others are written, and the status is 1")
    func someFail() throws {
        try inFolder { folder in
            try Data("not a picture".utf8).write(to: URL(fileURLWithPath: folder + "/bad.png"))
            try Data().write(to: URL(fileURLWithPath: folder + "/empty.jpg"))
            let result = try run(
                [
                    "embed", folder, folder + "/missing.jpg", samples + "/chelsea.jpg", "--text",
                    String(repeating: "word ", count: 90),
                    "--text", "fine", "--output", folder + "/o.npy", "--device", "cpu",
                ])
            #expect(result.status == 1)
            let failures = result.errors.split(separator: "\n").filter { $0.hasPrefix("failed: ") }
            #expect(failures.count == 4)
            #expect(
                failures[0].contains("bad.png") && failures[1].contains("empty.jpg")
                    && failures[2].contains("missing.jpg"))
            #expect(failures[3].contains("too long"))
            let names = try String(contentsOfFile: folder + "/o.npy.inputs.jsonl", encoding: .utf8).split(
                separator: "\n")
            #expect(names.count == 2)
            #expect(names[0].contains("\"row\": 0") && names[0].contains("chelsea"))
            #expect(names[1] == "{\"row\": 1, \"input\": \"fine\", \"kind\": \"text\"}")
        }
    }

    @Test(
        "embed: pixels whose row is not finite fail alone, and the others keep their bytes",
        arguments: [Float.nan, 3e38])
    func notFinite(value: Float) throws {
        try inFolder { folder in
            let path = folder + "/p.npy"
            let pictures = ["chelsea.jpg", "red-circle.png", "coffee.jpg"].map { samples + "/" + $0 }
            #expect(try run(["preprocess"] + pictures + ["--size", "48", "--output", path]).status == 0)
            let sound = try run(["embed", path, "--device", "cpu"])
            #expect(sound.status == 0)
            var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
            let row = 3 * 48 * 48 * 4
            let first = bytes.count - 2 * row
            for place in stride(from: first, to: first + row, by: value.isNaN ? row : 4) {
                bytes.replaceSubrange(place..<(place + 4), with: withUnsafeBytes(of: value) { Data($0) })
            }
            try bytes.write(to: URL(fileURLWithPath: path))
            for format in formats {
                let output = folder + "/rows." + format
                let result = try run(["embed", path, "--device", "cpu", "--output", output])
                #expect(result.status == 1)
                let failures = result.errors.split(separator: "\n").filter { $0.hasPrefix("failed: ") }
                #expect(failures.count == 1 && failures.first?.contains(path + "[1]") == true, "\(result.errors)")
                guard format == "jsonl" else { continue }
                var expected = sound.output.split(separator: "\n")
                expected.remove(at: 1)
                #expect(try String(contentsOfFile: output, encoding: .utf8).split(separator: "\n") == expected)
            }
        }
    }

    @Test("A name that is not UTF-8 is one failed input in every command, and the others go on")
    func names() throws {
        try inFolder { folder in
            let (pictures, output) = (folder + "/pictures", folder + "/o")
            try FileManager.default.createDirectory(atPath: pictures, withIntermediateDirectories: true)
            // é of Latin-1; what is no picture is passed over whatever its name.
            let made = try shell(
                """
                cd "$0" && for name in a "$(printf 'caf\\351')" z; do
                cp "$1/red-circle.png" "$name.png" && echo "a red circle" >"$name.txt" || exit 1; done
                mkdir "$(printf 'd\\351')" && cp a.png a.txt "$(printf 'd\\351')"
                """, [pictures, samples])
            guard made.status == 0 else { return }  // This file system takes no such names.
            let commands = [
                ["embed", pictures], ["classify", pictures, "--label", "a red circle", "--json"], ["score", pictures],
                ["index", pictures, "--output", output + ".safetensors"],
                ["preprocess", pictures, "--output", output + ".npy"],
            ]
            for command in commands {
                let result = try run(command + (command[0] == "preprocess" ? [] : ["--device", "cpu"]))
                #expect(result.status == 1)
                let failures = result.errors.split(separator: "\n").filter { $0.hasPrefix("failed: ") }
                #expect(
                    failures
                        == ["caf\u{FFFD}.png", "d\u{FFFD}"].map {
                            "failed: \(pictures)/\($0) cannot be read: its name is not UTF-8; rename it."
                        }, "\(command)")
                let rows =
                    switch command[0] {
                    case "index": try String(contentsOfFile: output + ".safetensors.inputs.jsonl", encoding: .utf8)
                    case "preprocess": try String(contentsOfFile: output + ".npy.inputs.jsonl", encoding: .utf8)
                    default: result.output
                    }
                let lines = rows.split(separator: "\n")
                #expect(lines.count == 2 && lines[0].contains("/a.png") && lines[1].contains("/z.png"), "\(command)")
            }
            // Given by themselves, as arguments and on standard input.
            let named = try shell(
                """
                cd "$0" && "$1" embed a.png "$(printf 'caf\\351.png')" "$(printf 'd\\351')" "$(printf 'caf\\351.tar')" --device cpu
                """, [pictures, binary])
            let listed = try shell(
                """
                cd "$0" && printf 'a.png\\ncaf\\351.png\\nd\\351\\ncaf\\351.tar\\n' | "$1" embed - --device cpu
                """, [pictures, binary])
            for result in [named, listed] {
                #expect(result.status == 1 && result.output.split(separator: "\n").count == 1)
                let failures = result.errors.split(separator: "\n").filter { $0.hasPrefix("failed: ") }
                #expect(
                    failures
                        == ["caf\u{FFFD}.png", "d\u{FFFD}", "caf\u{FFFD}.tar"].map {
                            "failed: \($0) cannot be read: its name is not UTF-8; rename it."
                        }, "\(result.errors)")
            }
            // A class that is left out would make the accuracy one of fewer classes.
            let evaluated = try run(["evaluate", pictures, "--device", "cpu"])
            #expect(evaluated.status == 2)
            #expect(
                evaluated.errors == "error: \(pictures)/d\u{FFFD} cannot be read: its name is not UTF-8; rename it.\n")
        }
    }

    @Test(
        "Wrong usage ends with 2, and nothing on standard output",
        arguments: [
            ["embed"], ["embed", "--text"], ["embed", "--nonsense"], ["nonsense"],
            ["embed", "x.jpg", "--device", "tpu"],
            ["embed", "x.jpg", "--batch-size", "0"], ["similarity", "x.jpg"], ["tokenize"], ["preprocess", "x.jpg"],
            ["bench", "--batch", "0"], ["embed", "--format", "xml", "--text", "a"],
            ["embed", "--text-file", "/dev/null"], ["index", "--output", "x.safetensors"], ["index", "x.jpg"],
            ["search", "/nowhere.npy", "--text", "a"], ["search", "x.npy"],
            ["search", "x.npy", "--text", "a", "--top", "0"],
            ["classify", "x.jpg"], ["classify", "--label", "a"], ["classify", "x.jpg", "--label", "a", "--top", "0"],
            ["classify", "x.jpg", "--label", "a", "--label", "a"], ["classify", "x.jpg", "--labels", "/nowhere.txt"],
            ["classify", "x.jpg", "--label", "a", "--template", "a photo", "--device", "cpu"],
            ["classify", "x.jpg", "--label", "a", "--templates", "opnai"],
            ["classify", "-", "--label", "a", "--device", "cpu"],
            ["classify", "x.jpg", "--label", "a", "--save-labels", "x.npy"], ["score"],
            ["score", "-", "--device", "cpu"],
            ["classify", "/nowhere.safetensors", "--label", "a"],
            ["classify", "x.jpg", "--labels", "/nowhere.safetensors"],
            ["evaluate", "--pairs", "-", "--device", "cpu"], ["evaluate", "--pairs", "-", "--labels", "imagenet"],
            ["evaluate"], ["evaluate", "/nowhere"], ["evaluate", samples], ["evaluate", samples, "--top", "1"],
        ])
    func usage(arguments: [String]) throws {
        let result = try run(arguments)
        #expect(result.status == 2)
        #expect(result.output.isEmpty)
        #expect(!result.errors.isEmpty)
    }

    @Test(
        "Devices and precisions that are not to be had end with 3",
        arguments: [
            ["--device", "opencl:99"], ["--device", "cuda"], ["--device", "cpu", "--precision", "fp16"],
        ])
    func device(arguments: [String]) throws {
        let result = try run(["embed", "--text", "a"] + arguments)
        #expect(result.status == 3)
        #expect(result.errors.contains("error: "))
    }

    @Test("A model that is not there or not a model ends with 4")
    func model() throws {
        try inFolder { folder in
            let missing = try run(["embed", "--text", "a", "--model", folder + "/none"])
            #expect(missing.status == 4)
            #expect(missing.errors.contains("\(folder)/none\" is neither a file"))
            try Data("{\"model_type\": \"bert\"}".utf8).write(to: URL(fileURLWithPath: folder + "/config.json"))
            let result = try run(["inspect", folder])
            #expect(result.status == 4)
            #expect(result.errors.contains("bert"))
        }
    }

    @Test("Weights that do not say their activation need it, and give the archive's embeddings with it")
    func activation() throws {
        let folder = repository + "/Tests/CLIPModelTests/Fixtures/openai-vit"
        let bare = try run(["inspect", folder + "/training.pt"])
        #expect(bare.status == 4 && bare.errors.contains("--activation quickgelu"))
        #expect(try run(["inspect", folder + "/archive.pt", "--activation", "gelu"]).status == 4)
        #expect(try run(["inspect", folder + "/archive.pt", "--activation", "swish"]).status == 2)
        let picture = samples + "/coffee.jpg"
        let archive = try run(["embed", picture, "--model", folder + "/archive.pt", "--device", "cpu"])
        let said = try run([
            "embed", picture, "--model", folder + "/training.pt", "--activation", "quickgelu", "--device", "cpu",
        ])
        let other = try run([
            "embed", picture, "--model", folder + "/training.pt", "--activation", "gelu", "--device", "cpu",
        ])
        #expect(archive.status == 0 && archive.output == said.output && other.output != said.output)
    }

    @Test("A folder is indexed, searched in words and by picture, and indexed again when it changed")
    func collections() throws {
        try inFolder { folder in
            let (pictures, output) = (folder + "/pictures", folder + "/pictures.safetensors")
            try FileManager.default.copyItem(atPath: samples, toPath: pictures)
            let index = ["index", pictures, "--output", output, "--device", "cpu"]
            let first = try run(index)
            #expect(first.status == 0 && first.output.isEmpty)
            #expect(first.errors.contains("9 added, 0 kept, 0 removed"))
            let words = try run(["search", output, "--text", "a red circle", "--text", "a blue heart", "--top", "2"])
            #expect(words.status == 0)
            let lines = words.output.split(separator: "\n").map(String.init)
            #expect(lines.count == 6 && lines[0] == "a red circle" && lines[3] == "a blue heart")
            #expect(
                lines[1].hasSuffix(pictures + "/red-circle.png") && lines[4].hasSuffix(pictures + "/blue-heart.png"))
            let picture = try run(["search", output, "--image", samples + "/white-star.png", "--top", "1", "--json"])
            #expect(
                picture.output.hasPrefix(
                    "{\"query\": \"\(samples)/white-star.png\", \"kind\": \"image\", \"results\": [{\"row\": "))
            #expect(picture.output.contains("\"input\": \"\(pictures)/white-star.png\", \"cosine\": "))

            let again = try run(index)
            #expect(again.status == 0 && again.errors.contains("is up to date"))
            try FileManager.default.removeItem(atPath: pictures + "/blue-heart.png")
            let changed = try run(index)
            #expect(changed.status == 0 && changed.errors.contains("0 added, 8 kept, 1 removed"))
            #expect(try !run(["search", output, "--text", "a blue heart"]).output.contains("blue-heart.png"))
            let other = try run(index + ["--exif"])
            #expect(other.status == 0 && other.errors.contains("8 added, 0 kept"))
            #expect(other.errors.contains("was made with exif false, not true"))
            // Vectors of another model have another dimension, or are told by the name.
            let model = repository + "/Tests/CLIPModelTests/Fixtures/openai-vit/archive.pt"
            let unlike = try run(["search", output, "--image", samples + "/coffee.jpg", "--model", model])
            #expect(unlike.errors.contains("was made with built-in demonstration model"))
        }
    }

    @Test("serve answers a client on the port that it says, refuses one that is taken, and ends when told with 0")
    func serve() throws {
        try inFolder { folder in
            let server = Process()
            server.executableURL = URL(fileURLWithPath: binary)
            server.arguments = ["serve", "--port", "0", "--device", "cpu"]
            _ = FileManager.default.createFile(atPath: folder + "/err", contents: nil)
            server.standardError = FileHandle(forUpdatingAtPath: folder + "/err")
            try server.run()
            defer { if server.isRunning { kill(server.processIdentifier, SIGKILL) } }
            func said() throws -> String { try String(contentsOfFile: folder + "/err", encoding: .utf8) }
            let limit = Date().addingTimeInterval(600)
            while try !said().contains("listening: "), Date() < limit { Thread.sleep(forTimeInterval: 0.02) }
            let port = try #require(said().firstMatch(of: /listening: http:\/\/127\.0\.0\.1:(\d+)\n/)?.1)

            let body = "{\"input\": \"a red circle\"}"
            let answer = try #require(
                try ask(
                    port: Int(port) ?? 0,
                    "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                        + "Content-Length: \(body.utf8.count)\r\nConnection: close\r\n\r\n\(body)"))
            #expect(answer.hasPrefix("HTTP/1.1 200 OK"))
            let row = try run(["embed", "--text", "a red circle", "--device", "cpu"]).output
            let embedding = try #require(row.firstMatch(of: /"embedding": (\[.*\])/)?.1)
            #expect(answer.contains("\"embedding\": \(embedding)}"))
            #expect(answer.contains("\"model\": \"built-in demonstration model\""))

            let second = try run(["serve", "--port", String(port), "--device", "cpu"])
            #expect(second.status == 2)
            #expect(second.errors.contains("error: cannot listen at 127.0.0.1, port \(port): "))
            #expect(try run(["serve", "--port", "70000"]).status == 2)

            kill(server.processIdentifier, SIGTERM)
            server.waitUntilExit()
            #expect(server.terminationReason == .exit && server.terminationStatus == 0)
            #expect(try said().hasSuffix("served 1 in 1 batch\n"))
        }
    }

    /// What a server on this machine answers before it closes the connection.
    private func ask(port: Int, _ request: String) throws -> String? {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/bash")
        process.arguments = ["-c", "exec 3<>/dev/tcp/127.0.0.1/$0; printf %s \"$1\" >&3; cat <&3", "\(port)", request]
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let answer = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return String(data: answer, encoding: .utf8)
    }

    @Test("Pictures of another size than the model's")
    func imageSize() throws {
        let folder = repository + "/Tests/CLIPModelTests/Fixtures/"
        let inspected = try run(["inspect", folder + "siglip", "--image-size", "42"])
        #expect(inspected.status == 0 && inspected.output.contains("resized from 4x4 to 6x6"))
        #expect(inspected.output.contains("--image-size"))
        let picture = samples + "/coffee.jpg"
        let arguments = ["embed", picture, "--model", folder + "openai-vit/archive.pt", "--device", "cpu"]
        let other = try run(arguments + ["--image-size", "48"])
        let usual = try run(arguments)
        #expect(other.status == 0 && other.output != usual.output)
        let resNet = try run(["inspect", folder + "openai-resnet/archive.pt", "--image-size", "96"])
        #expect(resNet.status == 4 && resNet.errors.contains("cannot be resized"))
        #expect(try run(["inspect", folder + "siglip", "--image-size", "3"]).status == 4)
        #expect(try run(["inspect", folder + "siglip", "--image-size", "0"]).status == 2)
    }

    @Test("An output that cannot be written ends with 5")
    func output() throws {
        #expect(try run(["embed", "--text", "a", "--output", "/nonexistent/o.npy", "--device", "cpu"]).status == 5)
        #expect(try run(["embed", "--text", "a", "--output", "/", "--device", "cpu"]).status == 5)
    }

    @Test(
        "Ctrl-C and termination leave nothing under the output's name",
        arguments: [(SIGINT, Int32(130)), (SIGTERM, Int32(143))])
    func interruption(signal: Int32, status: Int32) throws {
        try inFolder { folder in
            let result = try run(["embed", "-", "--output", folder + "/o.npy", "--device", "cpu"]) { process in
                // The output grows under another name.
                while process.isRunning, (try? FileManager.default.contentsOfDirectory(atPath: folder))?.count != 2 {
                    Thread.sleep(forTimeInterval: 0.002)
                }
                kill(process.processIdentifier, signal)
            }
            #expect(result.status == status)
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
        }
    }

    @Test("A signal ends a command that waits for input whenever it comes, also just before it begins to wait")
    func earlyInterruption() throws {
        for delay in stride(from: 0.002, to: 0.15, by: 0.004) {
            let process = Process()
            process.executableURL = URL(fileURLWithPath: binary)
            process.arguments = ["tokenize", "--json-lines", "-"]
            process.standardInput = Pipe()  // Stays open, and silent.
            process.standardOutput = FileHandle.nullDevice
            process.standardError = FileHandle.nullDevice
            try process.run()
            Thread.sleep(forTimeInterval: delay)
            kill(process.processIdentifier, SIGINT)
            let limit = Date().addingTimeInterval(600)
            while process.isRunning, Date() < limit { Thread.sleep(forTimeInterval: 0.002) }
            #expect(!process.isRunning, "still waiting after a signal at \(delay) s")
            if process.isRunning { kill(process.processIdentifier, SIGKILL) }
            process.waitUntilExit()
            // Before the command has a handler, the signal itself ends it.
            #expect(
                process.terminationReason == .uncaughtSignal && process.terminationStatus == SIGINT
                    || process.terminationStatus == 130)
        }
    }

    @Test("A closed pipe ends quietly, whether its signal is ignored or not", arguments: ["--ignore", "--default"])
    func closedPipe(disposition: String) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        // What writes the lines may complain where the signal is ignored.
        process.arguments = [
            "\(disposition)-signal=PIPE", "sh", "-c",
            "{ yes '\"word\"' | head -n 20000; } 2>/dev/null | { \"$0\" tokenize --json-lines -; echo \"status $?\" >&2; } | head -n 1 >/dev/null",
            binary,
        ]
        let pipe = Pipe()
        process.standardError = pipe
        try process.run()
        let errors = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(errors == "status 0\n")
    }

    @Test(
        "Output that nobody reads ends every command that writes data quietly",
        arguments: formats.map { ["embed", "--text", "a", "--device", "cpu", "--format", $0] } + [
            ["preprocess", samples + "/chelsea.jpg", "--output", "-"],
            ["preprocess", samples + "/chelsea.jpg", "--output", "/dev/stdout"],
            ["similarity", samples + "/chelsea.jpg", "--text", "a", "--device", "cpu"],
            ["classify", samples + "/chelsea.jpg", "--label", "a", "--device", "cpu"],
            ["evaluate", repository + "/tools", "--device", "cpu"],
            ["tokenize", "a"], ["inspect"], ["models"], ["devices", "--json"], ["--help"], ["--version"],
            ["bench", "--tower", "text", "--batch", "1", "--seconds", "0.1", "--device", "cpu"],
        ])
    func nobodyReads(arguments: [String]) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: binary)
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(["HF_HUB_OFFLINE": "1"]) { $1 }
        let (output, errors) = (Pipe(), Pipe())
        try output.fileHandleForReading.close()
        process.standardOutput = output
        process.standardError = errors
        try process.run()
        let said = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(process.terminationReason == .exit && process.terminationStatus == 0, "\(said)")
        #expect(!said.contains("error") && !said.contains("Error") && !said.contains("embedded"), "\(said)")
    }

    @Test("Paths are read from standard input")
    func standardInput() throws {
        let result = try run(
            ["embed", "-", "--device", "cpu"], input: "\(samples)/chelsea.jpg\n\n\(samples)/astronaut.jpg\n")
        #expect(result.status == 0)
        #expect(result.output.split(separator: "\n").count == 2)
    }

    @Test("tokenize prints the reference's ids, padded")
    func tokenize() throws {
        let result = try run(["tokenize", "--context-length", "8", "a photo of a cat", "hello world"])
        #expect(
            result.output == "[49406, 320, 1125, 539, 320, 2368, 49407, 0]\n[49406, 3306, 1002, 49407, 0, 0, 0, 0]\n")
        #expect(result.status == 0)
        let long = try run(["tokenize", "--context-length", "4", "a photo of a cat"])
        #expect(long.status == 1 && long.output.isEmpty)
        #expect(
            try run(["tokenize", "--context-length", "4", "--truncate", "a photo of a cat"]).output
                == "[49406, 320, 1125, 49407]\n")
        let lines = try run(
            ["tokenize", "--json-lines", "-", "--context-length", "4"], input: "\"a\"\nno JSON\n\n\"hello\"\n")
        #expect(lines.status == 1 && lines.errors.contains("line 2: expected one JSON string."))
        #expect(lines.output == "[49406, 320, 49407, 0]\n[49406, 3306, 49407, 0]\n")
        #expect(try run(["tokenize", "--context-length", "9223372036854775807", "a"]).status == 2)
        #expect(try run(["embed", "--text", "a", "--batch-size", "9223372036854775807"]).status == 2)
    }

    @Test("tokenize reads a folder of tokenizer files, cleans as open_clip does, and refuses what it cannot read")
    func tokenizerFolder() throws {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("CLIPInputTests/Fixtures/tokenizers/xlm-roberta").path
        let plain = try run(["tokenize", "--tokenizer", folder, "--context-length", "6", "--truncate", "a  photo"])
        #expect(plain.status == 0 && plain.output == "[0, 8, 18, 2, 1, 1]\n")
        let cleaned = try run([
            "tokenize", "--tokenizer", folder, "--clean", "lower", "--context-length", "6", "--truncate",
            "A &amp; PHOTO",
        ])
        let spelt = try run(["tokenize", "--tokenizer", folder, "--context-length", "6", "--truncate", "a & photo"])
        #expect(cleaned.status == 0 && cleaned.output == spelt.output)
        let unknown = try run(["tokenize", "--tokenizer", folder, "--clean", "scrub", "a"])
        #expect(unknown.status == 4 && unknown.errors.contains("\"scrub\""))
        #expect(try run(["tokenize", "--clean", "lower", "a"]).status == 2)
    }

    @Test("What preprocess writes, embed reads: the same embedding to the bit")
    func preprocess() throws {
        try inFolder { folder in
            let side = "48"  // The demonstration model's.
            let pixels = try run([
                "preprocess", samples + "/chelsea.jpg", "--size", side, "--output", folder + "/p.npy",
            ])
            #expect(pixels.status == 0)
            let direct = try run(["embed", samples + "/chelsea.jpg", "--device", "cpu"])
            let viaPixels = try run(["embed", folder + "/p.npy", "--device", "cpu"])
            func numbers(_ text: String) -> Substring {
                text[(text.range(of: "embedding")?.lowerBound ?? text.startIndex)...]
            }
            #expect(viaPixels.status == 0)
            #expect(numbers(direct.output) == numbers(viaPixels.output))
        }
    }

    @Test("similarity: probabilities sum to one, and as JSON")
    func similarity() throws {
        let result = try run([
            "similarity", samples + "/chelsea.jpg", "--text", "a red circle", "--text", "a blue star", "--json",
            "--device", "cpu",
        ])
        #expect(result.status == 0)
        let object = try #require(JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any])
        let probabilities = try #require(object["probabilities"] as? [Double])
        #expect(abs(probabilities.reduce(0, +) - 1) < 1e-5)
    }

    private static let coloured = ["--label", "red circle", "--label", "blue heart", "--label", "white star"]

    @Test("classify: the best labels of each picture, in words and as JSON")
    func classify() throws {
        let pictures = [samples + "/white-star.png", samples + "/blue-heart.png"]
        let words = try run(["classify"] + pictures + Self.coloured + ["--top", "2", "--device", "cpu"])
        #expect(words.status == 0)
        let lines = words.output.split(separator: "\n").map(String.init)
        #expect(lines.count == 6 && lines[0] == pictures[0] && lines[3] == pictures[1])
        #expect(lines[1].wholeMatch(of: /\ +\d+\.\d\d %  white star/) != nil)
        #expect(lines[4].wholeMatch(of: /\ +\d+\.\d\d %  blue heart/) != nil)

        try inFolder { folder in
            try Data("red circle\n\nblue heart\nwhite star\n".utf8).write(
                to: URL(fileURLWithPath: folder + "/labels.txt"))
            try Data("a photo of a {}\nthe small {}\n".utf8).write(
                to: URL(fileURLWithPath: folder + "/templates.txt"))
            func objects(_ arguments: [String], input: String? = nil) throws -> [[String: Any]] {
                let result = try run(["classify"] + arguments + ["--json", "--device", "cpu"], input: input)
                #expect(result.status == 0)
                return try result.output.split(separator: "\n").map {
                    try #require(JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
                }
            }
            let all = try objects([samples, "--labels", folder + "/labels.txt"])
            #expect(all.count == 9)
            for object in all {
                let cosines = try #require(object["cosines"] as? [Double])
                #expect(cosines.count == 3 && cosines == cosines.sorted(by: >))
                let probabilities = try #require(object["probabilities"] as? [Double])
                #expect(abs(probabilities.reduce(0, +) - 1) < 1e-5)
            }
            #expect((all[8]["image"] as? String)?.hasSuffix("yellow-star-left-of-purple-ring.png") == true)
            // The same probabilities as of `similarity`, by the default template.
            let compared = try run(
                ["similarity", pictures[1], "--json", "--device", "cpu"]
                    + ["red circle", "blue heart", "white star"].flatMap { ["--text", "a photo of a \($0)"] })
            let object = try #require(
                JSONSerialization.jsonObject(with: Data(compared.output.utf8)) as? [String: Any])
            let expected = try #require(object["probabilities"] as? [Double])
            let found = try #require(all[2]["probabilities"] as? [Double])
            #expect(all[2]["labels"] as? [String] == ["blue heart", "white star", "red circle"] && expected.count == 3)
            for (index, place) in [1, 2, 0].enumerated() { #expect(abs(found[index] - expected[place]) < 1e-4) }

            // Templates of a file, by option, and of the built-in set are others; paths come from standard input.
            let one = [pictures[0]] + Self.coloured
            let plain = try objects(one)[0]["cosines"] as? [Double]
            let file = try objects(one + ["--templates", folder + "/templates.txt"])[0]["cosines"] as? [Double]
            let given = try objects(one + ["--template", "a photo of a {}", "--template", "the small {}"])
            let simple = try objects(["-"] + Self.coloured + ["--templates", "simple"], input: pictures[0] + "\n")
            #expect(file == given[0]["cosines"] as? [Double] && file != plain && plain != nil)
            #expect(simple.count == 1 && simple[0]["cosines"] as? [Double] != plain)
            let imageNet = try objects([pictures[0], "--labels", "imagenet"])
            #expect((imageNet[0]["labels"] as? [String])?.count == 5)
        }
    }

    @Test("classify: labels' vectors are kept and taken again; pictures' vectors are classified as the pictures are")
    func classifyKept() throws {
        try inFolder { folder in
            let (labels, index) = (folder + "/labels.safetensors", folder + "/index.safetensors")
            func classify(_ arguments: [String], status: Int32 = 0) throws -> (output: String, errors: String) {
                let result = try run(["classify"] + arguments + ["--device", "cpu"])
                #expect(result.status == status)
                return (result.output, result.errors)
            }
            let made = try classify([samples] + Self.coloured + ["--save-labels", labels, "--json"]).output
            #expect(made.split(separator: "\n").count == 9)
            let kept = try classify([samples, "--labels", labels, "--json"])
            #expect(kept.output == made)
            #expect(kept.errors.contains("model: built-in demonstration model, which made \(labels)"))

            #expect(try run(["index", samples, "--output", index, "--device", "cpu"]).status == 0)
            #expect(try classify([index] + Self.coloured + ["--json"]).output == made)
            // Between pictures, in the order given.
            let star = samples + "/white-star.png"
            let mixed = try classify([star, index, star, "--labels", labels, "--json"]).output
            let line = try classify([star, "--labels", labels, "--json"]).output
            #expect(mixed == line + made + line)

            for arguments in [
                ["--template", "a {}"], ["--templates", "simple"], ["--save-labels", labels], ["--label", "a"],
            ] {
                #expect(
                    try classify([star, "--labels", labels] + arguments, status: 2).errors.contains("holds"))
            }
            let accuracy = try run(["evaluate", folder, "--labels", labels, "--device", "cpu"])
            #expect(accuracy.status == 2)  // No subfolders.
            try FileManager.default.removeItem(atPath: labels + ".inputs.jsonl")
            #expect(try classify([star, "--labels", labels], status: 2).errors.contains(".inputs.jsonl is missing"))
        }
    }

    @Test(
        "A template without its place for the label is said before a model is loaded",
        arguments: ["classify", "evaluate"])
    func templates(command: String) throws {
        try inFolder { folder in
            let file = folder + "/templates.txt"
            try Data("a photo of a {}\na drawing\n".utf8).write(to: URL(fileURLWithPath: file))
            try FileManager.default.createDirectory(atPath: folder + "/class", withIntermediateDirectories: true)
            let labels = command == "classify" ? ["--label", "a"] : []
            for given in [["--templates", file], ["--template", "a drawing"]] {
                let result = try run([command, folder] + labels + given + ["--model", folder + "/none"])
                #expect(result.status == 2 && result.output.isEmpty)
                #expect(
                    result.errors.hasPrefix("error: The template \"a drawing\" has no {}: expected a sentence with {}"))
            }
        }
    }

    @Test("classify: one bad input is named, the others are classified, and the status is 1")
    func classifySomeFail() throws {
        let result = try run(
            ["classify", "/nowhere.jpg", samples + "/red-circle.png", "--device", "cpu"] + Self.coloured)
        #expect(result.status == 1 && result.errors.contains("failed: /nowhere.jpg cannot be read"))
        #expect(result.output.hasPrefix(samples + "/red-circle.png\n") && result.output.contains("red circle\n"))
    }

    @Test("score: the cosine of each pair, as lines and as JSON, and the mean; what fails is named")
    func score() throws {
        let (star, heart) = (samples + "/white-star.png", samples + "/blue-heart.png")
        let list = "\(star)\ta photo of a white star\n\(heart)\ta photo of a blue heart\n"
        let words = try run(["score", "-", "--device", "cpu"], input: list)
        #expect(words.status == 0)
        let lines = words.output.split(separator: "\n").map { $0.split(separator: "\t").map(String.init) }
        #expect(
            lines.map { Array($0.dropFirst()) } == [
                [star, "a photo of a white star"], [heart, "a photo of a blue heart"],
            ])
        let cosines = try lines.map { try #require(Float($0[0].trimmingCharacters(in: .whitespaces))) }
        let mean = try #require(words.errors.firstMatch(of: /scored 2 pairs in .*; mean cosine (-?[0-9.]+)/))
        #expect(try abs((cosines[0] + cosines[1]) / 2 - #require(Float(mean.1))) < 2e-4)
        let json = try run(["score", "-", "--json", "--device", "cpu"], input: "/nowhere.png\ta\n" + list)
        #expect(json.status == 1 && json.errors.contains("failed: /nowhere.png cannot be read"))
        let objects = try json.output.split(separator: "\n").map {
            try #require(JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
        }
        #expect(objects.map { $0["image"] as? String } == [star, heart])
        #expect(objects.map { $0["text"] as? String } == ["a photo of a white star", "a photo of a blue heart"])
        let exact = objects.compactMap { $0["cosine"] as? Double }
        #expect(exact.count == 2 && abs(Float(exact[0]) - cosines[0]) < 1e-4)
    }

    @Test("evaluate --pairs: how often sentences and pictures find each other, in words and as JSON")
    func evaluatePairs() throws {
        let list = [
            "white-star a white star", "blue-heart a blue heart", "blue-heart a heart", "red-circle a red circle",
        ].map {
            let words = $0.split(separator: " ", maxSplits: 1)
            return "\(samples)/\(words[0]).png\t\(words[1])\n"
        }.joined()
        let words = try run(["evaluate", "--pairs", "-", "--device", "cpu"], input: list)
        #expect(words.status == 0 && words.output.hasPrefix("3 pictures, 4 sentences\n"))
        #expect(words.output.contains("  100.00 %  pictures of which a sentence is among the best 1\n"))
        let json = try run(
            ["evaluate", "--pairs", "-", "--json", "--device", "cpu"], input: list + "/nowhere.png\ta\n")
        #expect(json.status == 1 && json.errors.contains("failed: /nowhere.png"))
        let object = try #require(JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any])
        #expect(object["pictures"] as? Int == 3 && object["texts"] as? Int == 4 && object["failed"] as? Int == 1)
        #expect(object["image_retrieval_recall@5"] as? Double == 1 && object["text_retrieval_recall@1"] as? Double == 1)
    }

    @Test("evaluate: accuracy and recall of a folder of classes, in words and as JSON")
    func evaluate() throws {
        try inFolder { folder in
            let files = FileManager.default
            func put(_ sample: String, in name: String) throws {
                try files.createDirectory(atPath: folder + "/" + name, withIntermediateDirectories: true)
                try files.copyItem(
                    atPath: samples + "/\(sample).png", toPath: folder + "/\(name)/\(sample).png")
            }
            try put("red-circle", in: "red_circle")
            try put("blue-heart", in: "blue_heart")
            try put("white-star", in: "white_star")
            try put("yellow-star-left-of-purple-ring", in: "blue_heart")
            let arguments = ["evaluate", folder, "--top", "2", "--device", "cpu"]
            let words = try run(arguments)
            #expect(words.status == 0)
            #expect(
                words.output == """
                    4 pictures of 3 classes
                       75.00 %  top-1 accuracy, 3 of 4
                       75.00 %  top-2 accuracy, 3 of 4
                       83.33 %  mean per-class recall
                    most often taken for another
                      1  blue heart, taken for white star

                    """)
            try Data("no picture".utf8).write(to: URL(fileURLWithPath: folder + "/white_star/bad.png"))
            let failed = try run(arguments + ["--json"])
            #expect(failed.status == 1 && failed.errors.contains("white_star/bad.png"))
            let object = try #require(
                JSONSerialization.jsonObject(with: Data(failed.output.utf8)) as? [String: Any])
            #expect((object["pictures"] as? Int, object["failed"] as? Int, object["classes"] as? Int) == (4, 1, 3))
            #expect(object["acc1"] as? Double == 0.75 && object["acc2"] as? Double == 0.75)
            #expect(abs((object["mean_per_class_recall"] as? Double ?? 0) - 2.5 / 3) < 1e-9)
            #expect((object["confusions"] as? [[String: Any]])?[0]["taken_for"] as? String == "white star")

            // Labels in the order of the subfolders' names; a wrong number of them is wrong usage.
            let labels = URL(fileURLWithPath: folder + "/labels.txt")
            try Data("white star\nred circle\nblue heart\n".utf8).write(to: labels)
            let other = try run(arguments + ["--labels", labels.path, "--json"])
            #expect(other.status == 1 && other.output.contains("\"acc1\": 0.5"))
            try Data("white star\n".utf8).write(to: labels)
            let few = try run(arguments + ["--labels", labels.path])
            #expect(few.status == 2 && few.output.isEmpty && few.errors.contains("3 subfolders"))
        }
        try inFolder { folder in
            try FileManager.default.createDirectory(atPath: folder + "/empty", withIntermediateDirectories: true)
            let result = try run(["evaluate", folder, "--device", "cpu"])
            #expect(result.status == 1 && result.output.isEmpty && result.errors.contains("holds no picture"))
        }
    }

    @Test("inspect, devices and bench speak JSON")
    func json() throws {
        let inspected = try run(["inspect", "--json"])
        #expect(inspected.status == 0)
        _ = try #require(JSONSerialization.jsonObject(with: Data(inspected.output.utf8)) as? [String: Any])
        for line in try run(["devices", "--json"]).output.split(separator: "\n") {
            _ = try #require(JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
        }
        let bench = try run([
            "bench", "--tower", "image", "--batch", "2", "--seconds", "0.1", "--json", "--device", "cpu",
        ])
        let object = try #require(JSONSerialization.jsonObject(with: Data(bench.output.utf8)) as? [String: Any])
        #expect((object["items_per_second"] as? Double ?? 0) > 0)
        #expect(object["batch"] as? Int == 2)
    }

    @Test("tune measures, remembers, and keeps the bytes; nothing is used that was not asked for")
    func tune() throws {
        let count = try openCLDevices([:])
        guard count > 0 else { return }
        try inFolder { folder in
            let environment = ["CLIP_GPU_CACHE": folder]
            let device = ["--device", "opencl:\(count - 1)"]
            let embed = ["embed", samples + "/chelsea.jpg"] + device
            let before = try run(embed, environment: environment)
            #expect(!before.errors.contains("tuned"))
            let tuned = try run(["tune", "--seconds", "0.01", "--json"] + device, environment: environment)
            #expect(tuned.status == 0)
            let variants = try tuned.output.split(separator: "\n").map {
                try #require(JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
            }
            #expect(variants.count == 2)
            #expect(variants.allSatisfy { $0["gflops"] as? Double ?? 0 > 0 })
            #expect(tuned.errors.contains("remembered in \(folder)/"))
            let after = try run(embed, environment: environment)
            #expect(after.errors.contains("note: opencl:\(count - 1) is tuned: linear "))
            #expect(after.output == before.output)
        }
        #expect(try run(["tune", "--device", "cpu"]).status == 3)
    }

    @Test("The self-test reports facts, kernels and rates of the CPU and of an OpenCL device")
    func selfTest() throws {
        let count = try openCLDevices([:])
        for device in ["cpu"] + (count > 0 ? ["opencl:\(count - 1)"] : []) {
            let result = try run(["devices", "--selftest", "--json", "--device", device])
            #expect(result.status == 0)
            for line in result.output.split(separator: "\n") {
                let report = try #require(JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
                #expect(report["device"] as? String == device)
                #expect((report["failures"] as? [String])?.isEmpty == true)
                #expect((report["peak_gflops"] as? Double ?? 0) > 0)
                let figures = try #require(report["figures"] as? [[String: Any]])
                let names = figures.compactMap { $0["operation"] as? String }
                #expect(
                    names.map { $0.prefix { $0 != " " } } == ["queryKeyValue", "linear", "linear", "linear", "patches"]
                        + Array(repeating: "attention", count: 5) + ["norm", "selectRows"])
                #expect(figures.allSatisfy { (0...1).contains($0["share_of_peak"] as? Double ?? 2) })
                let facts = try #require(report["facts"] as? [[String: String]])
                #expect(facts.contains { $0["name"] == "kernels" })
                if device != "cpu" {
                    #expect(facts.contains { $0["name"] == "extensions" && $0["value"]?.contains("cl_khr") == true })
                }
            }
        }
    }

    @Test(
        "Every command has help with examples",
        arguments: [
            "embed", "similarity", "classify", "evaluate", "tokenize", "preprocess", "inspect", "devices", "bench",
            "tune",
        ])
    func help(command: String) throws {
        let result = try run([command, "--help"])
        #expect(result.status == 0)
        #expect(result.output.contains("clip-gpu \(command) "))
        #expect(result.output.contains("Examples:"))
        #expect(result.errors.isEmpty)
    }

    @Test("models lists names, and names that cannot be had say why")
    func modelNames() throws {
        try inFolder { folder in
            let offline = ["HF_HUB_OFFLINE": "1", "HOME": folder, "HF_HOME": folder]
            let list = try run(["models", "--json"], environment: offline)
            #expect(list.status == 0)
            let first = try #require(list.output.split(separator: "\n").first)
            let model = try #require(JSONSerialization.jsonObject(with: Data(first.utf8)) as? [String: Any])
            #expect(model["name"] as? String == "RN50")
            #expect(model["size"] as? Int == 255_827_503)
            #expect(model["parameters"] as? Int == 102_007_137)
            let text = try run(["models"], environment: offline).output
            #expect(text.contains("~605 MB"))
            #expect(model["path"] is NSNull)
            #expect(try run(["models", "--on-disk", "--json"], environment: offline).output.isEmpty)

            let missing = try run(["embed", "--text", "x", "--model", "ViT-B/32"], environment: offline)
            #expect(missing.status == 4)
            #expect(missing.errors.contains("HF_HUB_OFFLINE"))
            let unknown = try run(["inspect", "ViT-B-32/nothing"], environment: offline)
            #expect(unknown.status == 4)
            #expect(unknown.errors.contains("ViT-B-32/openai"))
            #expect(try run(["download"], environment: offline).status == 2)
            #expect(try run(["download", "hf:owner/name"], environment: offline).status == 4)
        }
    }
}
