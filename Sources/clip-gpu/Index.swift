// clip-gpu index: a collection of pictures, kept up to date.

import ArgumentParser
import CLIPGPU

struct Index: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Keep a file of pictures' vectors up to date, for search.",
        discussion: """
            OUTPUT is what `clip-gpu embed` writes, with the size and time of each picture's file (or archive) noted beside it. \
            Run again, it embeds what is new or changed, keeps the rows of what is not, and drops those of what is gone. Another model, \
            precision or setting makes all of it anew. Interrupted, it keeps what was computed; a folder or archive that \
            cannot be read keeps its rows.

            Examples:
              clip-gpu index photos/ --output photos.safetensors --model ViT-B/32
              find / -name '*.jpg' | clip-gpu index - --output all.safetensors
            """)

    @Argument(
        help: ArgumentHelp(
            "All that the file is to hold: pictures, folders, .npy files of pixels, .tar archives, or - for paths on standard "
                + "input.", valueName: "input"))
    var inputs: [String] = []

    @Option(name: .long, help: ArgumentHelp("The file, a .safetensors; made where there is none.", valueName: "file"))
    var output: String

    @OptionGroup(title: "Pictures") var pictures: PictureOptions
    @OptionGroup(title: "Model") var model: ModelOptions
    @OptionGroup(title: "Device") var compute: ComputeOptions

    func run() throws {
        let inputs = EmbeddingInputs(paths: inputs)
        if inputs.paths.isEmpty {
            throw Failure(.usage, "nothing to index: name pictures or folders. `clip-gpu index --help` has examples.")
        }
        var settings = [("precision", compute.precision.rawValue)]
        if let size = model.overrides.imageSize { settings.append(("image-size", "\(size)")) }
        if let activation = model.overrides.activation { settings.append(("activation", activation.rawValue)) }
        if let files = CLIP.recordedFiles(of: model.recorded) { settings.append(("model-files", files)) }
        let update = try CollectionUpdate(
            path: output, inputs: inputs, model: model.recorded, settings: settings, options: pictures.preparation)
        if let reason = update.reasonToStartAnew { Terminal.say("note: \(reason) All rows are made anew.") }
        if update.isUpToDate() == true {
            Terminal.say("\(output) is up to date.")
            return
        }
        let clip = try compute.load(model, towers: .image)
        var progress = Progress { nil }
        let change = try update.run(clip, batchSize: compute.batchSize, shouldStop: { Interruption.happened }) {
            result in
            if case .failure(let error) = result.embedding {
                progress.clear()
                Terminal.say("failed: \(error.description)")
            }
            progress.advance(failed: (try? result.embedding.get()) == nil)
        }
        progress.clear()
        Terminal.say(progress.summary(clip))
        Terminal.say("\(output): \(change.added) added, \(change.kept) kept, \(change.removed) removed")
        try Interruption.check(kept: "what was computed is in \(output); the same command goes on from there")
        if change.failed > 0 { throw Failure(.someFailed) }
    }
}
