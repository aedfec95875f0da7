// clip-gpu score: how well pictures fit the sentences that belong to them.

import ArgumentParser
import CLIPGPU

struct Score: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The cosine of each picture and the sentence that belongs to it, for many pairs.",
        discussion: """
            What data sets are filtered by, and what CLIPScore measures: 2.5 times the mean of these cosines, negative ones taken \
            as 0 (torchmetrics: 100 times the mean). A line for each pair, in their order: cosine, picture and sentence, with tabs between.

            PAIRS is a file with a picture's path, a tab and a sentence in each line, or JSON objects with "image" and "text"; - for \
            such lines on standard input; a .tar of webdataset (1.jpg, 1.txt, 2.jpg, …); or a folder in which a .txt stands \
            beside each picture.

            Examples:
              clip-gpu score pairs.tsv --model ViT-L/14
              clip-gpu score cc12m-*.tar --json --truncate | jq -c 'select(.cosine > 0.28)'
              printf 'cat.jpg\\ta photo of a cat\\n' | clip-gpu score -
            """)

    @Argument(
        help: ArgumentHelp("Lists, .tar archives, folders, or - for lines on standard input.", valueName: "pairs"))
    var pairs: [String] = []

    @Flag(name: .long, help: "One JSON object a line: image, text, cosine.")
    var json = false

    @OptionGroup var length: LengthOptions
    @OptionGroup(title: "Pictures") var pictures: PictureOptions
    @OptionGroup(title: "Model") var model: ModelOptions
    @OptionGroup(title: "Device") var compute: ComputeOptions

    func run() throws {
        if pairs.isEmpty {
            throw Failure(.usage, "nothing to score: name lists of pairs. `clip-gpu score --help` has examples.")
        }
        let clip = try compute.load(model)
        var (scored, sum) = (0, 0.0)
        let start = ContinuousClock.now
        let failed = try compute.embedPairs(
            EmbeddingPairs(pairs), clip, pictures.preparation, truncate: length.truncate
        ) { result, _ in
            let cosine = try result.cosine.get()
            scored += 1
            sum += Double(cosine)
            try report(result, cosine)
        }
        if scored > 0 {
            let seconds = (ContinuousClock.now - start) / .seconds(1)
            Terminal.say(
                "scored \(scored) pairs in \(rounded(seconds)) s, \(rounded(Double(scored) / seconds))/s; mean cosine"
                    + fixed(Float(sum / Double(scored)), 4) + (failed > 0 ? "; \(failed) failed" : ""))
        }
        if failed > 0 { throw Failure(.someFailed) }
    }

    private func report(_ pair: PairResult, _ cosine: Float) throws {
        if json {
            try StandardOutput.write(
                "{\"image\": \(JSONText.quoted(pair.name)), \"text\": \(JSONText.quoted(pair.text)), \"cosine\": \(cosine)}\n"
            )
            return
        }
        // A line stays a line, and a column a column.
        let columns = [pair.name, pair.text].map { column in
            String(column.map { $0 == "\t" || $0.isNewline ? " " : $0 })
        }
        let number = fixed(cosine, 4)
        try StandardOutput.write("\(cosine < 0 ? number[...] : number.dropFirst())\t\(columns[0])\t\(columns[1])\n")
    }
}
