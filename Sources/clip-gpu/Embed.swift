// clip-gpu embed: pictures and sentences into rows of numbers.

import ArgumentParser
import CLIPGPU

struct Embed: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Embed pictures and sentences.",
        discussion: """
            Rows stand in the order given, inputs before texts. A row of jsonl is \
            {"input": "cat.jpg", "kind": "image", "embedding": [...]}. Beside npy and safetensors stands \
            OUTPUT.inputs.jsonl, which says what each row is: a failed input leaves no row.

            Examples:
              clip-gpu embed cat.jpg --text "a photo of a cat"
              clip-gpu embed photos/ --model models/clip-vit-base-patch32 --output photos.npy
              clip-gpu embed --text-file captions.txt --format csv > captions.csv
              find / -name '*.jpg' | clip-gpu embed - --device gpu --output all.safetensors
            """)

    @Argument(
        help: ArgumentHelp(
            "Pictures, folders, .npy files of pixels, .tar archives, or - for paths on standard input.",
            valueName: "input"))
    var inputs: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp("A file of sentences, one a line; may be given many times.", valueName: "file"))
    var textFile: [String] = []

    @Flag(name: .long, help: "Features as the model gives them. Without it, vectors have unit length.")
    var raw = false

    @Option(name: .long, help: ArgumentHelp("Where to write. Default: standard output.", valueName: "file"))
    var output: String?

    @Option(name: .long, help: "jsonl, npy, safetensors or csv. Default: as the output's name ends, else jsonl.")
    var format: EmbeddingFormat?

    @OptionGroup var sentences: SentenceOptions
    @OptionGroup(title: "Pictures") var pictures: PictureOptions
    @OptionGroup(title: "Model") var model: ModelOptions
    @OptionGroup(title: "Device") var compute: ComputeOptions

    func run() throws {
        let inputs = EmbeddingInputs(paths: inputs, texts: sentences.text, textFiles: textFile)
        if inputs.paths.isEmpty && inputs.texts.isEmpty && inputs.textFiles.isEmpty {
            throw Failure(
                .usage,
                "nothing to embed: name pictures or folders, or give --text. `clip-gpu embed --help` has examples.")
        }
        var preparation = pictures.preparation
        preparation.truncatesText = sentences.truncate
        var towers: CLIP.Towers = []
        if !inputs.paths.isEmpty { towers.insert(.image) }
        if !inputs.texts.isEmpty || !inputs.textFiles.isEmpty { towers.insert(.text) }
        let clip = try compute.load(model, towers: towers)

        let writer = try EmbeddingWriter(
            path: output, format: format ?? EmbeddingFormat(path: output),
            dimension: clip.information.embeddingDimension, metadata: [("model", model.recorded)])
        defer { writer.abandon() }  // Nothing, once it is finished.
        let total = Terminal.isInteractive ? BackgroundCount(inputs) : nil
        var progress = Progress { total?.value }
        try clip.embed(
            inputs, batchSize: compute.batchSize, normalized: !raw, options: preparation,
            shouldStop: { Interruption.happened }
        ) { result in
            switch result.embedding {
            case .success(let embedding):
                try writer.append(embedding, input: result.name, kind: result.kind)
            case .failure(let error):
                progress.clear()
                Terminal.say("failed: \(error.description)")
            }
            progress.advance(failed: (try? result.embedding.get()) == nil)
        }
        progress.clear()
        try Interruption.check()
        if progress.done == 0 { throw Failure(.usage, "nothing to embed: the inputs are empty.") }
        try writer.finish()
        Terminal.say(progress.summary(clip))
        if progress.failed > 0 { throw Failure(.someFailed) }
    }
}

extension EmbeddingFormat: ExpressibleByArgument {}
