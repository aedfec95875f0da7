// clip-gpu preprocess: the pixels that a model sees.

import ArgumentParser
import CLIPGPU

struct Preprocess: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Pictures as the model sees them: float32 [n, 3, H, W], normalised.",
        discussion: """
            Exactly what the reference's `preprocess` gives, to the last bit. Beside the output stands \
            OUTPUT.inputs.jsonl, which says what each row is.

            Examples:
              clip-gpu preprocess photos/ --output pixels.npy
              clip-gpu preprocess cat.jpg --size 336 --output cat.npy
            """)

    @Argument(
        help: ArgumentHelp("Pictures, folders, .tar archives, or - for paths on standard input.", valueName: "input"))
    var inputs: [String]

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Side of the square, in pixels. Default: the model's, where one is named; else 224.",
            valueName: "pixels"))
    var size: Int?

    @Option(name: .long, help: ArgumentHelp("Where to write, as .npy.", valueName: "file"))
    var output: String

    @Option(
        name: .long,
        help: ArgumentHelp(
            "The model whose size, mean and deviation to use: a name, a folder or a file.", valueName: "model"))
    var model: String?

    @OptionGroup(title: "Pictures") var pictures: PictureOptions

    func validate() throws {
        if let size, !(1...16384).contains(size) {
            throw ValidationError("--size takes a number from 1 to 16384, not \(size).")
        }
    }

    func run() throws {
        let preprocessor = try Preprocessor(model: model, size: size, options: pictures.preparation)
        let writer = try EmbeddingWriter(path: output, format: .npy, shape: [3, preprocessor.size, preprocessor.size])
        defer { writer.abandon() }
        let inputs = EmbeddingInputs(paths: inputs)
        let total = Terminal.isInteractive ? BackgroundCount(inputs) : nil
        var progress = Progress { total?.value }
        try preprocessor.forEach(inputs, shouldStop: { Interruption.happened }) { name, pixels in
            switch pixels {
            case .success(let pixels): try writer.append(pixels[...], input: name, kind: .image)
            case .failure(let error):
                progress.clear()
                Terminal.say("failed: \(error.description)")
            }
            progress.advance(failed: (try? pixels.get()) == nil)
        }
        progress.clear()
        try Interruption.check()
        if progress.done == 0 { throw Failure(.usage, "nothing to preprocess: the inputs are empty.") }
        try writer.finish()
        if progress.failed > 0 { throw Failure(.someFailed) }
    }
}
