// clip-gpu search: the pictures of a collection that fit a sentence or a picture best.

import ArgumentParser
import CLIPGPU

struct Search: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The rows of a file of vectors that fit a sentence or a picture best.",
        discussion: """
            Exact: the cosine of every row is computed. FILE is what `clip-gpu index` or `clip-gpu embed` wrote, or any float \
            array [n, dimension] in a .safetensors or .npy; FILE.inputs.jsonl beside it says what the rows are. Queries go \
            through the model that made the rows, where the file names it.

            Examples:
              clip-gpu search photos.safetensors --text "a dog on a beach"
              clip-gpu search photos.safetensors --image cat.jpg --top 3 --json
              clip-gpu search photos.npy --text "a red car" --model ViT-B/32
            """)

    @Argument(help: ArgumentHelp("A .safetensors or .npy of vectors.", valueName: "file"))
    var file: String

    @Option(name: .long, help: ArgumentHelp("A picture to look for; may be given many times.", valueName: "image"))
    var image: [String] = []

    @Option(name: .long, help: ArgumentHelp("Rows to show for each query.", valueName: "count"))
    var top = 10

    @Flag(name: .long, help: "One JSON object a line: query, kind, and results with row, input and cosine.")
    var json = false

    @OptionGroup var sentences: SentenceOptions
    @OptionGroup(title: "Pictures") var pictures: PictureOptions
    @OptionGroup(title: "Model") var model: ModelOptions
    @OptionGroup(title: "Device") var compute: ComputeOptions

    func validate() throws {
        if top < 1 { throw ValidationError("--top takes a number from 1, not \(top).") }
    }

    func run() throws {
        if sentences.text.isEmpty && image.isEmpty {
            throw Failure(.usage, "nothing to look for: give at least one --text or --image.")
        }
        let collection = try givenRightly { try EmbeddingCollection(contentsOf: file) }
        var towers: CLIP.Towers = []
        if !sentences.text.isEmpty { towers.insert(.text) }
        if !image.isEmpty { towers.insert(.image) }
        let (clip, _) = try compute.load(model, beside: [collection], towers: towers)
        var options = pictures.preparation
        options.truncatesText = sentences.truncate
        if clip.information.embeddingDimension != collection.dimension {
            throw Failure(
                .usage,
                "\(file) has rows of \(collection.dimension) numbers, and the model makes vectors of "
                    + "\(clip.information.embeddingDimension): name the model that made the file.")
        }
        let inputs = EmbeddingInputs(paths: image, texts: sentences.text)
        let failed = try compute.embed(inputs, clip, options) { result, query in
            try report(result, collection.nearest(to: query, count: top)[0])
        }
        if failed > 0 { throw Failure(.someFailed) }
    }

    private func report(_ query: EmbeddingResult, _ matches: [EmbeddingCollection.Match]) throws {
        if json {
            let results = matches.map {
                "{\"row\": \($0.row), \"input\": \(JSONText.quoted($0.input)), \"cosine\": \($0.cosine)}"
            }
            try StandardOutput.write(
                "{\"query\": \(JSONText.quoted(query.name)), \"kind\": \"\(query.kind.rawValue)\", "
                    + "\"results\": [\(results.joined(separator: ", "))]}\n")
            return
        }
        try StandardOutput.write(
            query.name + "\n" + matches.map { "  \(fixed($0.cosine, 4))  \($0.input)\n" }.joined())
    }
}
