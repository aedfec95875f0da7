// clip-gpu bench: tensor in, embedding out, on this machine.

import ArgumentParser
import CLIPGPU

struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Items per second on this machine: tensor in, embedding out.",
        discussion: """
            Random pixels and ids; the median of several runs. Reading and decoding files is not in it. GFLOP/s count the \
            matrix products that the model needs, convolutions as plain sums (which some take fewer for); the peak is \
            what the device's multiply-adds reach out of registers (in int8, those of bytes), on tensor cores what a \
            product of 4096x4096x4096 reaches, measured beside.

            Examples:
              clip-gpu bench --model models/clip-vit-base-patch32 --batch 1 --batch 32
              clip-gpu bench --tower text --length 12 --json
              clip-gpu bench --captions captions.jsonl --batch 32
            """)

    @Option(name: .long, help: "image or text. Default: both.")
    var tower: EmbeddingInput.Kind?

    @Option(
        name: .long,
        help: ArgumentHelp("Items at a time; may be given many times. Default: 1, 8 and 32.", valueName: "count"))
    var batch: [Int] = []

    @Option(
        name: .long,
        help: ArgumentHelp("Tokens of a text, both ends included. Default: the model's context.", valueName: "count"))
    var length: Int?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Measure passes over these sentences instead of random ids: one a line, each a JSON string.",
            valueName: "file"))
    var captions: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Measure a matrix product with bias instead of a model: rows x inputs x outputs, as in 5632x768x3072, followed by "
                + ":gelu or :residual where it has one; may be given many times.", valueName: "product"))
    var linear: [Product] = []

    @Option(name: .long, help: ArgumentHelp("How long to measure each line.", valueName: "seconds"))
    var seconds: Double = 2

    @Flag(name: .long, help: "One JSON object a line.")
    var json = false

    @OptionGroup(title: "Model") var model: ModelOptions
    @OptionGroup(title: "Device") var compute: ComputeOptions

    func validate() throws {
        for count in batch where count < 1 { throw ValidationError("--batch takes numbers from 1, not \(count).") }
        if !(seconds > 0 && seconds < 3600) {
            throw ValidationError("--seconds takes a number above 0, not \(seconds).")
        }
        if captions != nil, length != nil || tower == .image {
            throw ValidationError(
                "--captions brings sentences of their own lengths: leave out --length and --tower image.")
        }
    }

    func run() throws {
        if !linear.isEmpty {
            let rates = try Device.measureProducts(
                compute.device, precision: compute.precision, threads: compute.threads, linear.map(\.product),
                seconds: seconds)
            for (product, rate) in zip(linear, rates) {
                try StandardOutput.write(
                    json
                        ? "{\"linear\": \"\(product.text)\", \"gflops\": \(rate)}\n"
                        : "linear \(product.text): \(rounded(rate)) GFLOP/s\n")
            }
            return
        }
        var sentences: [String] = []
        if let captions { try JSONText.forEachString(inLinesOf: captions) { sentences.append($0) } }
        if captions != nil, sentences.isEmpty { throw Failure(.usage, "--captions: the file holds no sentence.") }
        let kinds: [EmbeddingInput.Kind] = captions != nil ? [.text] : tower.map { [$0] } ?? [.image, .text]
        var towers: CLIP.Towers = []
        if kinds.contains(.image) { towers.insert(.image) }
        if kinds.contains(.text) { towers.insert(.text) }
        let clip = try compute.load(model, towers: towers)
        if let length, !(2...clip.information.contextLength).contains(length) {
            throw Failure(
                .usage, "--length takes 2 to \(clip.information.contextLength), the model's context, not \(length).")
        }
        if !json { try StandardOutput.write("tower  batch  items/s  ms/batch  spread  GFLOP/s  of peak\n") }
        for kind in kinds {
            for size in batch.isEmpty ? [1, 8, 32] : batch {
                let stop = { Interruption.happened }
                let result =
                    captions != nil
                    ? try clip.benchmark(captions: sentences, batch: size, seconds: seconds, shouldStop: stop)
                    : try clip.benchmark(kind, batch: size, length: length, seconds: seconds, shouldStop: stop)
                try Interruption.check()
                if json {
                    try StandardOutput.write(result.json + "\n")
                } else {
                    try StandardOutput.write(
                        kind.rawValue.rightPadded(5) + String(size).leftPadded(7)
                            + rounded(result.itemsPerSecond).leftPadded(9)
                            + rounded(result.medianSeconds * 1000).leftPadded(10)
                            + ("±" + rounded(result.spread * 100) + " %").leftPadded(8)
                            + rounded(result.rate).leftPadded(9)
                            + (result.shareOfPeak.map { "\(Int(($0 * 100).rounded())) %" } ?? "-").leftPadded(9) + "\n")
                }
            }
        }
    }
}

extension EmbeddingInput.Kind: ExpressibleByArgument {}

/// "5632x768x3072:gelu"
struct Product: ExpressibleByArgument {
    let text: String
    let product: (rows: Int, inputs: Int, outputs: Int, activates: Bool, adds: Bool)

    init?(argument: String) {
        let parts = argument.split(separator: ":", omittingEmptySubsequences: false)
        let sizes = (parts.first ?? "").split(separator: "x").compactMap { Int($0) }
        let epilogue = parts.dropFirst().joined(separator: ":")
        guard sizes.count == 3, sizes.allSatisfy({ (1...1_000_000).contains($0) }),
            ["", "gelu", "residual"].contains(epilogue)
        else { return nil }
        text = argument
        product = (sizes[0], sizes[1], sizes[2], epilogue == "gelu", epilogue == "residual")
    }
}
