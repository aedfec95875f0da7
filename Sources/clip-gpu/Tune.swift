// clip-gpu tune: measures the kernels' variants on this machine's device and remembers the best.

import ArgumentParser
import CLIPGPU

struct Tune: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure which kernels are fastest on a device, and remember it.",
        discussion: """
            Later runs use what was found: it is kept beside the compiled programs, for this device, driver, precision and \
            version of the kernels. Nothing is measured unasked. Embeddings keep their bytes.

            Examples:
              clip-gpu tune
              clip-gpu tune --device opencl:0 --precision fp32 --model models/clip-vit-base-patch32
            """)

    @Option(
        name: .long,
        help: ArgumentHelp(
            "One OpenCL device: gpu[:N] or opencl[:N]. Default: the best GPU.", valueName: "device"))
    var device: Device = .automatic

    @Option(name: .long, help: "auto, fp32 or fp16. auto is fp16 on a GPU, fp32 elsewhere.")
    var precision: Precision = .automatic

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Measure the widths of this model: a name, a folder or a file. Default: ViT-B's.", valueName: "model"))
    var model: String?

    @Option(name: .long, help: ArgumentHelp("Begin no further variant after this time.", valueName: "seconds"))
    var seconds: Double = 60

    @Flag(name: .long, help: "One JSON object a variant.")
    var json = false

    func validate() throws {
        if !(seconds > 0 && seconds < 36000) {
            throw ValidationError("--seconds takes a number above 0, not \(seconds).")
        }
    }

    func run() throws {
        let result = try Device.tune(
            device, precision: precision, model: model, seconds: seconds, shouldStop: { Interruption.happened }
        ) { candidate in
            if json {
                let rate = candidate.rate.map { "\($0)" } ?? "null"
                try StandardOutput.write(
                    "{\"variant\": \(JSONText.quoted(candidate.name)), \"gflops\": \(rate)}\n")
            } else {
                let rate = candidate.rate.map { rounded($0).leftPadded(8) + " GFLOP/s" } ?? "  does not run here"
                try StandardOutput.write(candidate.name.rightPadded(40) + rate + "\n")
            }
        }
        try Interruption.check()
        guard let result else { return }
        guard let path = result.path else {
            throw Failure(
                .output,
                "\(result.chosen.name) is fastest, and the cache folder cannot be written: set CLIP_GPU_CACHE to one that can."
            )
        }
        Terminal.say("fastest: \(result.chosen.name); remembered in \(path)")
    }
}
