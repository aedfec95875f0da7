// The conformance suite on every OpenCL device there is, in each precision and with both families of kernels, and with those for
// tensor cores, whose instructions a CPU does in plain C; the disk cache of programs; and what happens where a kernel does not build.
//
// For work on kernels: `CLIP_GPU_CONFORMANCE` holds words, of which `quick` and `tiny` leave the cases of that size alone and every other
// has to be in the configuration's description ("opencl:1 fp32 tiled"); `CLIP_GPU_CASES` holds parts of the cases' names with | between.

import BackendTesting
import CLIPCompute
import Foundation
import OpenCLBackend
import Testing

/// One way to run the suite.
struct OpenCLConfiguration: Sendable, CustomTestStringConvertible {
    let device: OpenCLDeviceDescription
    let precision: Precision
    let family: OpenCLOptions.Family
    /// Emulated where the device has not got it.
    var step: MatrixStep?
    let cases: [ConformanceCase]

    var testDescription: String {
        "\(device.identifier) \(device.name) (\(device.platform)) \(precision.rawValue) \(family.rawValue)"
            + (step.map { " \($0.rawValue)" } ?? "")
    }

    /// Every device with the kernels meant for it on all cases, and with the others on the quick ones.
    static let all: [OpenCLConfiguration] = {
        let environment = ProcessInfo.processInfo.environment
        var words = (environment["CLIP_GPU_CONFORMANCE"] ?? "").split(separator: " ").map(String.init)
        let quickOnly = words.contains("quick"), tinyOnly = words.contains("tiny")
        words.removeAll { ["quick", "tiny"].contains($0) }
        var all: [OpenCLConfiguration] = []
        for device in (try? OpenCLDevices.all()) ?? [] {
            for family in OpenCLOptions.Family.allCases {
                let steps: [MatrixStep?] = [nil] + (family == .tiled ? MatrixStep.allCases : [])
                for (precision, step) in [(Precision.fp32, nil)] + steps.map({ (.fp16, $0) }) {
                    let isNatural = (device.kind == .cpu) == (family == .vector)
                    var cases = isNatural && !quickOnly ? Conformance.full : Conformance.quick
                    if step != nil, !device.matrixSteps.contains(where: { $0 == step }) {
                        // Emulation is slow, on PoCL most of all. But for mma, whose norm and pooled attention serve wgmma as well, steps
                        // have no more than these two operations of their own.
                        cases = device.half ? Conformance.quick : Conformance.tiny + Conformance.start
                        if step != .mma { cases.removeAll { !["linear", "attention"].contains($0.operation) } }
                    }
                    if tinyOnly { cases = Conformance.tiny }
                    if let parts = environment["CLIP_GPU_CASES"]?.split(separator: "|") {
                        cases.removeAll { aCase in !parts.contains { aCase.name.contains($0) } }
                    }
                    let configuration = OpenCLConfiguration(
                        device: device, precision: precision, family: family, step: step, cases: cases)
                    if words.allSatisfy({ configuration.testDescription.contains($0) }) { all.append(configuration) }
                }
            }
        }
        return all
    }()
}

@Suite(.serialized) struct OpenCLConformanceTests {
    @Test("the devices are listed in order, or one sentence says what to install") func devices() {
        do {
            let devices = try OpenCLDevices.all()
            #expect(devices.map(\.index) == Array(devices.indices))
            for device in devices {
                print("OpenCL device \(device.identifier): \(device.name), \(device.platform), driver \(device.driver)")
                #expect(!device.name.isEmpty && device.memory > 0 && device.largestAllocation > 0)
            }
        } catch {
            print("no OpenCL device: \(error)")
            #expect(error.code == .unavailable && error.description.contains("install"))
        }
    }

    @Test("every operation gives the reference's numbers", arguments: OpenCLConfiguration.all)
    func conformance(configuration: OpenCLConfiguration) throws {
        var options = OpenCLOptions()
        options.family = configuration.family
        options.matrixSteps = configuration.step.map { [$0] } ?? []
        options.emulatesMatrixSteps = !configuration.device.matrixSteps.contains { $0 == configuration.step }
        let backend = try OpenCLBackend(
            deviceIndex: configuration.device.index, precision: configuration.precision, options: options)
        #expect(backend.notices == [])
        #expect(backend.matrixStep == configuration.step)
        let results = Conformance.run(configuration.cases, on: backend)
        for result in results {
            let passed = result.passed
            #expect(passed, "\(configuration.testDescription): \(result.name): \(result.failures)")
        }
        let worst = results.max { $0.share < $1.share }
        print(
            "\(configuration.testDescription): \(results.count) cases, worst: \(worst?.name ?? "none"), \(worst?.share ?? 0)"
        )
    }

    @Test("a device that is not there, and a precision that is not") func refusals() {
        guard let devices = try? OpenCLDevices.all(), !devices.isEmpty else { return }
        let missing = #expect(throws: BackendError.self) { try OpenCLBackend(deviceIndex: 999) }
        #expect(missing?.code == .unavailable)
        let int8 = #expect(throws: BackendError.self) { try OpenCLBackend(deviceIndex: 0, precision: .int8) }
        #expect(int8?.code == .unsupported)
    }
}

/// A backend with options of the test's own, on the last device, which on the test machine compiles fastest.
private func backend(_ device: OpenCLDeviceDescription, _ change: (inout OpenCLOptions) -> Void) throws -> OpenCLBackend
{
    var options = OpenCLOptions()
    change(&options)
    return try OpenCLBackend(deviceIndex: device.index, precision: .fp32, options: options)
}

private let anyDevice = (try? OpenCLDevices.all())?.last

@Suite(.serialized, .enabled(if: anyDevice != nil, "no OpenCL device"))
struct OpenCLProgramTests {
    private let device: OpenCLDeviceDescription
    private let folder: String

    init() throws {
        device = try #require(anyDevice)
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("clip-gpu-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    }

    /// The kernel files that are in the binary.
    private let ownKernels = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("Kernels/OpenCL")

    /// What the cache folder holds.
    private func cached(_ folder: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
    }

    @Test("a second backend reads its programs from the cache; damaged and foreign ones are built anew")
    func cache() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let cache = folder + "/made/on/the/way"
        let first = try backend(device) { $0.cacheFolder = cache }
        #expect(first.programCounts.compiled > 0 && first.programCounts.cached == 0)
        let files = try cached(cache)
        #expect(files.count == first.programCounts.compiled)
        #expect(files.allSatisfy { $0.hasSuffix(".opencl") }, "temporary files stay behind")

        let second = try backend(device) { $0.cacheFolder = cache }
        #expect(second.programCounts.compiled == 0)
        #expect(second.programCounts.cached == first.programCounts.compiled)

        let path = cache + "/" + (try #require(files.first))
        let whole = try Data(contentsOf: URL(fileURLWithPath: path))
        var flipped = whole
        flipped[whole.count / 2] ^= 1
        var foreign = whole
        foreign[25] ^= 1  // within the key
        for (damage, bytes) in [
            ("a flipped bit", flipped), ("cut short", whole.prefix(whole.count / 2)), ("no header", whole.prefix(10)),
            ("nothing", Data()), ("another key", foreign), ("text", Data("not a program".utf8)),
        ] {
            try bytes.write(to: URL(fileURLWithPath: path))
            let third = try backend(device) { $0.cacheFolder = cache }
            #expect(third.programCounts.compiled >= 1, "\(damage) was taken for a program")
            #expect(try Data(contentsOf: URL(fileURLWithPath: path)) != bytes, "\(damage) was not written anew")
        }
    }

    @Test("a cache folder that cannot be written is no error") func unwritableCache() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try Data("a file".utf8).write(to: URL(fileURLWithPath: folder + "/file"))
        let made = try backend(device) { $0.cacheFolder = folder + "/file/below" }
        #expect(made.programCounts.compiled > 0)
        #expect(try backend(device) { $0.cacheFolder = nil }.programCounts.compiled > 0)
    }

    @Test("what was tuned is used by later backends, is written whole or not at all, and keeps the bytes")
    func tuning() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let first = try backend(device) { $0.cacheFolder = folder }
        #expect(first.tunedTile == nil)
        let tile = LinearTile(family: .vector, rows: 6, panel: 16)
        let path = try #require(first.remember([(.linear(tile), 1)]))
        let second = try backend(device) { $0.cacheFolder = folder }
        #expect(second.tunedTile == tile && second.linearTile == tile)
        #expect(try product(on: first) == product(on: second))
        let other = try backend(device) {
            $0.cacheFolder = folder
            $0.usesTuning = false
        }
        #expect(other.tunedTile == nil && other.linearTile == first.linearTile)
        let half = try OpenCLBackend(deviceIndex: device.index, precision: .fp16)
        #expect(half.tunedTile == nil, "the other precision's tuning was taken")

        try Data("not a record".utf8).write(to: URL(fileURLWithPath: path))
        #expect(try backend(device) { $0.cacheFolder = folder }.tunedTile == nil)
        // One that no kernel can be built for is not tried.
        _ = try #require(first.remember([(.linear(LinearTile(family: .vector, rows: 3, panel: 7)), 1)]))
        let illegal = try backend(device) { $0.cacheFolder = folder }
        #expect(illegal.tunedTile == nil && illegal.linearTile == first.linearTile)
    }

    @Test("tuned tiles of matrix instructions are used by later backends in their order, and keep the bytes")
    func matrixTuning() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        // Emulation is slow, on PoCL most of all, which is the last where there are two.
        let device = try OpenCLDevices.all()[0]
        func open(_ change: (inout OpenCLOptions) -> Void = { _ in }) throws -> OpenCLBackend {
            var options = OpenCLOptions()
            options.family = .tiled
            options.cacheFolder = folder
            options.matrixSteps = [.mma]
            options.emulatesMatrixSteps = true
            change(&options)
            return try OpenCLBackend(deviceIndex: device.index, precision: .fp16, options: options)
        }
        let small = try #require(MatrixTile("mma 32x64x64x4 16x32")),
            other = try #require(MatrixTile("mma 64x64x32x2 32x32"))
        let first = try open { $0.matrixTiles = [small] }
        #expect(first.tilesInUse == [.matrix(small)])
        #expect(first.tunableTiles.count > 5)
        // Three of one size: the fastest is kept, and behind it the smaller one.
        let same = try #require(MatrixTile("mma 64x64x64x3 32x32")),
            third = try #require(MatrixTile("mma 64x64x32x4 32x32"))
        let path = try #require(
            first.remember([(.matrix(small), 1), (.matrix(same), 3), (.matrix(other), 4), (.matrix(third), 2)]))
        let second = try open()
        #expect(second.tilesInUse.map(\.description) == ["\(other)", "\(small)"])
        #expect(second.notices == [])
        #expect(try product(on: first) == product(on: second))
        #expect(try open { $0.matrixTiles = [small] }.tilesInUse == [.matrix(small)], "a named tile yields to tuning")
        // One that no kernel can be built for is not tried; the shipped ones are.
        let illegal = MatrixTile(step: .mma, rows: 33, columns: 64, depth: 64, stages: 4)
        _ = try #require(first.remember([(.matrix(illegal), 1)]))
        let shipped = try open()
        #expect(shipped.tilesInUse.map(\.description) == MatrixTile.table(.mma).map(\.description))
        #expect(shipped.notices == [])
        try Data("not a record".utf8).write(to: URL(fileURLWithPath: path))
        #expect(first.tunableTiles.first == .matrix(small) && first.rememberedTiles(.mma).isEmpty)
    }

    @Test("a tile that does not build is not compiled again at the next start, and the reason is still said")
    func findings() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        // These devices know no PTX.
        let device = try OpenCLDevices.all()[0]
        func open() throws -> OpenCLBackend {
            var options = OpenCLOptions()
            options.cacheFolder = folder
            options.matrixSteps = [.mma]
            return try OpenCLBackend(deviceIndex: device.index, precision: .fp16, options: options)
        }
        let first = try open(), second = try open()
        #expect(first.matrixStep == nil && first.notices.count == MatrixTile.table(.mma).count)
        #expect(first.notices.allSatisfy { $0.contains("does not build") })
        #expect(second.notices == first.notices.map { $0.replacingOccurrences(of: "\n", with: " ") })
        #expect(second.programCounts.compiled == 0 && second.programCounts.cached == first.programCounts.compiled)
        for file in try cached(folder) where file.hasSuffix(".findings") {
            try Data("not a record".utf8).write(to: URL(fileURLWithPath: folder + "/" + file))
        }
        #expect(try open().notices == first.notices)
    }

    @Test("tiles of wgmma give the same bytes, whether a work-group makes one or all of them")
    func wgmmaTiles() throws {
        func open(_ tile: String) throws -> OpenCLBackend {
            var options = OpenCLOptions()
            options.family = .tiled
            options.matrixSteps = [.wgmma]
            options.matrixTiles = [try #require(MatrixTile("wgmma \(tile)"))]
            options.emulatesMatrixSteps = !device.matrixSteps.contains(.wgmma)
            return try OpenCLBackend(deviceIndex: device.index, precision: .fp16, options: options)
        }
        let first = try open("64x64x64x4")
        // Columns that leave a tile unfilled, and whole ones, which have programs of their own.
        let expected = try product(on: first, rows: 300, outputs: 150)
        let expectedPlain = try product(on: first, rows: 150, outputs: 256)
        for tile in ["64x32x64x3", "128x64x64x3 overlaps", "64x64x64x8 overlaps", "128x128x64x2"] {
            let backend = try open(tile)
            #expect(backend.notices == [])
            #expect(backend.tilesInUse.map(\.description) == ["wgmma \(tile)"])
            for most in [nil, 1, 3] {
                backend.mostProductGroups = most
                #expect(try product(on: backend, rows: 300, outputs: 150) == expected, "\(tile), \(most ?? 0)")
            }
            // Compilers take their time for each program.
            guard ["64x32x64x3", "128x64x64x3 overlaps"].contains(tile) else { continue }
            backend.mostProductGroups = 1
            #expect(try product(on: backend, rows: 150, outputs: 256) == expectedPlain, "\(tile), plain")
        }
    }

    private func product(on backend: OpenCLBackend, rows: Int = 21, outputs: Int = 50) throws -> [UInt32] {
        func values(_ count: Int) -> [Float] { (0..<count).map { Float($0 * 7919 % 1009) / 511 - 1 } }
        let linear = try backend.prepare(
            LinearParameters(weight: HostMatrix(HostTensor(values(outputs * 333), shape: [outputs, 333]))))
        try backend.begin()
        let x = try backend.upload(values(rows * 333), rows: rows, columns: 333)
        return try backend.wait(backend.submit(backend.linear(x, linear))).map(\.bitPattern)
    }

    @Test("the shipped tiles follow the width of the vectors")
    func shippedTiles() {
        let first = [16, 8, 4, 1].map { LinearTile.candidates(.vector, vectorWidth: $0)[0].description }
        #expect(first == ["vector 8x32", "vector 6x16", "vector 4x16", "vector 4x16"])
        #expect(LinearTile.candidates(.tiled, vectorWidth: 1).map(\.family) == [.tiled, .tiled, .vector])
    }

    @Test("a tile's text is read back; others are refused")
    func tileText() {
        for step in MatrixStep.allCases {
            let tunable = MatrixTile.tunable(step, on: device)
            for tile in MatrixTile.table(step) + tunable { #expect(MatrixTile(tile.description) == tile) }
            #expect(Set(tunable).count == tunable.count && tunable.count > 5, "\(step)")
        }
        for text in [
            "", "mma", "mma 128x128", "mma 128x128x32x3", "mma 100x128x32x3 64x64", "mma 128x128x48x3 64x64",
            "wgmma 128x512x64x4", "wgmma 128x256x64x2 overlaps", "wgmma 192x256x64x4", "dpas16 128x128x32x3 32x64",
            "wmma11 128x128x32x2 64x64 overlaps",
            "mfma 128x128x32x2 16x16",
        ] {
            #expect(MatrixTile(text) == nil, "\(text)")
        }
        for family in OpenCLOptions.Family.allCases {
            let tiles = LinearTile.candidates(family) + LinearTile.tunable(family, on: device)
            for tile in tiles { #expect(LinearTile(tile.description) == tile) }
            #expect(tiles.count > 4)
        }
        for text in [
            "", "vector", "vector 8", "vector 8x32x4", "tiled 8x32", "mma 8x32", "vector 0x32", "vector 8x32 ",
        ] {
            #expect(LinearTile(text) == nil, "\(text)")
        }
    }

    @Test("a tile that computes wrongly is left out in the midst of the pass that chooses it")
    func unsoundTile() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let (kernels, cache) = (folder + "/kernels", folder + "/cache")
        try FileManager.default.copyItem(at: ownKernels, to: URL(fileURLWithPath: kernels))
        let file = kernels + "/mma/linear.cl"
        let text = try String(contentsOfFile: file, encoding: .utf8)
        // The tile of the fewest rows alone forgets its biases.
        let wrong = text.replacingOccurrences(
            of: "+ biases[n]; }", with: "+ (BLOCK_ROWS == 32 ? 0.0f : biases[n]); }")
        #expect(wrong != text)
        try wrong.write(toFile: file, atomically: true, encoding: .utf8)
        func open(_ kernels: String?) throws -> OpenCLBackend {
            var options = OpenCLOptions()
            options.family = .tiled
            options.matrixSteps = [.mma]
            options.emulatesMatrixSteps = true
            options.kernelFolder = kernels
            options.cacheFolder = cache
            return try OpenCLBackend(deviceIndex: device.index, precision: .fp16, options: options)
        }
        let expected = try product(on: open(nil))
        let first = try open(kernels)
        #expect(first.notices == [])
        #expect(try product(on: first) == expected)
        #expect(first.notices.count == 1 && first.notices[0].contains("mma 32x64x64x4 16x32 was passed over"))
    }

    @Test("kernels of a folder are used; one that does not build steps down or says where it fails")
    func kernelFolder() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try FileManager.default.removeItem(atPath: folder)
        try FileManager.default.copyItem(at: ownKernels, to: URL(fileURLWithPath: folder))
        let same = try backend(device) { $0.kernelFolder = folder }
        #expect(same.notices == [])

        let linear = folder + "/linear.cl"
        let text = try String(contentsOfFile: linear, encoding: .utf8)
        // A fault of the tiled family alone: the backend steps down to the other, and says so.
        let fault = text.replacingOccurrences(
            of: "#else\n\n#define WORK_ITEMS", with: "#else\nno kernel\n#define WORK_ITEMS")
        #expect(fault != text)
        try fault.write(toFile: linear, atomically: true, encoding: .utf8)
        let stepped = try backend(device) {
            $0.kernelFolder = folder
            $0.family = .tiled
        }
        #expect(stepped.notices.count >= 1)
        #expect(stepped.notices.allSatisfy { $0.contains("tiled") && $0.contains("linear.cl") })

        // Sums that are wrong: found by the self-check, in both.
        let wrong = text.replacingOccurrences(
            of: "sums[i][v] = a * weights[v] +", with: "sums[i][v] = a * weights[v] -")
        #expect(wrong != text)
        try wrong.write(toFile: linear, atomically: true, encoding: .utf8)
        let error = #expect(throws: BackendError.self) {
            try backend(device) {
                $0.kernelFolder = folder
                $0.family = .vector
            }
        }
        #expect(error?.code == .kernel && error?.description.contains("self-check") == true)

        try FileManager.default.removeItem(atPath: linear)
        let missing = #expect(throws: BackendError.self) { try backend(device) { $0.kernelFolder = folder } }
        #expect(missing?.description.contains("linear.cl") == true)
    }
}

@Suite(.serialized) struct OpenCLPassTests {
    @Test(
        "a pass fills the compute units of the last wave",
        arguments: [
            // H200: 132 units, tiles of 128x256. ViT-B has width 768, ViT-L 1024.
            (132, 128, 256, 768, 5632), (132, 128, 256, 1024, 4224), (114, 128, 256, 768, 4864),
        ])
    func microBatch(units: Int, tileRows: Int, tileColumns: Int, width: Int, rows: Int) {
        let tiles = MicroBatch(computeUnits: units, tileRows: tileRows, tileColumns: tileColumns)
        #expect(tiles.rows(width: width, within: 4096...16384) == rows)
        #expect(tiles.utilisation(rows: rows, width: width) > 0.99)
    }

    @Test("the use of the compute units is what counting tiles gives")
    func utilisation() {
        let tiles = MicroBatch(computeUnits: 132, tileRows: 128, tileColumns: 256)
        func use(pictures: Int) -> Int { Int((tiles.utilisation(rows: pictures * 50, width: 768) * 100).rounded()) }
        #expect(use(pictures: 112) == 99)
        #expect(use(pictures: 128) == 72)
        #expect(use(pictures: 256) == 85)
        #expect(use(pictures: 225) == 100)
    }

    @Test("what is left is one pass where it fills the units, else as much as does")
    func passOfWhatIsLeft() {
        let tiles = MicroBatch(computeUnits: 132, tileRows: 128, tileColumns: 256)
        func pass(pictures: Int) -> Int { tiles.pass(of: pictures * 50, preferred: 16896, width: 768) }
        #expect(pass(pictures: 1000) == 16896 && pass(pictures: 337) == 337 * 50)
        #expect(pass(pictures: 225) == 225 * 50 && pass(pictures: 112) == 112 * 50)
        #expect(pass(pictures: 256) == 2 * 5632 && pass(pictures: 128) == 5632)
        #expect(pass(pictures: 31) == 31 * 50 && pass(pictures: 1) == 50)
    }

    @Test("nothing waits between begin and submit, and passes keep the device busy", arguments: OpenCLPassTests.devices)
    func passes(device: OpenCLDeviceDescription) throws {
        let backend = try OpenCLBackend(deviceIndex: device.index, precision: .fp32)
        let (rows, width) = (400, 1024)
        let weight = HostMatrix(HostTensor([Float](repeating: 0.001, count: width * width), shape: [width, width]))
        let linear = try backend.prepare(LinearParameters(weight: weight))
        let values = [Float](repeating: 1, count: rows * width)
        func pass() throws -> Ticket {
            try backend.begin()
            var x = try backend.upload(values, rows: rows, columns: width)
            for _ in 0..<8 { x = try backend.linear(x, linear) }
            return try backend.submit(backend.selectRows(x, [0]))
        }
        _ = try backend.wait(pass())  // Builds the programs and takes the memory.
        _ = try backend.wait(pass())
        let clock = ContinuousClock()
        /// The shares of the time in which passes are enqueued and computed.
        func shares() throws -> (enqueuing: Double, busy: Double) {
            let before = backend.busySeconds
            var enqueuing = Duration.zero
            let whole = try clock.measure {
                var running: [Ticket] = []
                for _ in 0..<6 {
                    if running.count == backend.laneCount { _ = try backend.wait(running.removeFirst()) }
                    enqueuing += try clock.measure { running.append(try pass()) }
                }
                for ticket in running { _ = try backend.wait(ticket) }
            }
            return (enqueuing / whole, (backend.busySeconds - before) / (whole / .seconds(1)))
        }
        /// What a pass needs is sent while the pass before it computes.
        func overlaps() throws -> Bool {
            let two = [try pass(), try pass()]
            let times = try two.map { ticket in
                _ = try backend.wait(ticket)
                return backend.lastPassTimes
            }
            return try #require(times[1].sent).lowerBound < #require(times[0].computed).upperBound
        }
        // Other tests may hold this thread up at any place, so not every turn needs to show it.
        let turns = 10
        #expect(try (0..<turns).contains { _ in try overlaps() })
        #expect(
            try (0..<turns).contains { _ in
                let (enqueuing, busy) = try shares()
                print("\(device.identifier): enqueuing \(enqueuing) of the time, busy \(busy)")
                return busy > 0.5 && busy <= 1.01 && enqueuing < 0.5
            })
    }

    @Test("pixels that are sent in several pieces arrive whole", arguments: OpenCLPassTests.devices)
    func pieces(device: OpenCLDeviceDescription) throws {
        let backend = try OpenCLBackend(deviceIndex: device.index, precision: .fp32)
        let (count, side) = (70, 151)
        let picture = side * side * 3
        let patches = try backend.prepare(
            PatchParameters(
                weight: HostTensor((0..<(4 * picture)).map { Float($0 % 101) / 100 }, shape: [4, 3, side, side]),
                bias: nil,
                classToken: nil, positions: nil, normalization: .openAI))
        func rows(_ bytes: ArraySlice<UInt8>) throws -> [Float] {
            try bytes.withUnsafeBufferPointer {
                try backend.begin()
                let pixels = Pixels(.bytes($0), count: $0.count / picture, height: side, width: side)
                return try backend.wait(backend.submit(backend.patches(pixels, patches)))
            }
        }
        let bytes = (0..<(count * picture)).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 9) }
        #expect(bytes.count > 4 << 20, "one piece only")
        let each = try (0..<count).flatMap { try rows(bytes[($0 * picture)..<(($0 + 1) * picture)]) }
        #expect(try rows(bytes[...]) == each)
    }

    @Test("what times cover together is counted once") func covered() {
        #expect(Trace.covered([]) == 0)
        #expect(Trace.covered([10..<20, 15..<30, 0..<5, 16..<17, 30..<31]) == 26)
    }

    static let devices = (try? OpenCLDevices.all()) ?? []
}
