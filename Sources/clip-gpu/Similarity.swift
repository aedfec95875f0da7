// clip-gpu similarity: how well sentences fit pictures.

import ArgumentParser
import CLIPGPU

struct Similarity: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Cosines of pictures and sentences, and probabilities by the model's own scale.",
        discussion: """
            The probabilities of a picture are the softmax, over the sentences, of the cosine times the model's scale, as \
            `model(image, text)` and a softmax give them. SigLIP and other models with a logit bias give each sentence a \
            probability of its own instead, the sigmoid of the cosine times the scale plus the bias.

            Examples:
              clip-gpu similarity cat.jpg --text "a diagram" --text "a dog" --text "a cat"
              clip-gpu similarity photos/*.jpg --text "a beach" --text "a city" --json
            """)

    @Argument(help: ArgumentHelp("Pictures.", valueName: "image"))
    var images: [String]

    @Flag(name: .long, help: "One JSON object a line: image, texts, cosines, probabilities.")
    var json = false

    @OptionGroup var sentences: SentenceOptions
    @OptionGroup(title: "Pictures") var pictures: PictureOptions
    @OptionGroup(title: "Model") var model: ModelOptions
    @OptionGroup(title: "Device") var compute: ComputeOptions

    func run() throws {
        if sentences.text.isEmpty { throw Failure(.usage, "nothing to compare with: give at least one --text.") }
        let clip = try compute.load(model)
        let texts = try clip.encodeText(clip.tokenize(sentences.text, truncate: sentences.truncate))
        let failed = try compute.embed(EmbeddingInputs(paths: images), clip, pictures.preparation) { result, image in
            let cosines = image.cosineSimilarity(to: texts)[0]
            try report(result.name, cosines, clip.probabilities(ofCosines: cosines))
        }
        if failed > 0 { throw Failure(.someFailed) }
    }

    private func report(_ image: String, _ cosines: [Float], _ probabilities: [Float]) throws {
        if json {
            let texts = sentences.text.map(JSONText.quoted).joined(separator: ", ")
            try StandardOutput.write(
                "{\"image\": \(JSONText.quoted(image)), \"texts\": [\(texts)], "
                    + "\"cosines\": \(JSONText.array(cosines)), \"probabilities\": \(JSONText.array(probabilities))}\n")
            return
        }
        var lines = image + "\n"
        for index in sentences.text.indices {
            lines += "  \(fixed(cosines[index], 4))  \(percent(probabilities[index]))  \(sentences.text[index])\n"
        }
        try StandardOutput.write(lines)
    }
}

/// A number with this many decimals.
func fixed(_ value: Float, _ decimals: Int) -> String {
    var scale = 1.0
    for _ in 0..<decimals { scale *= 10 }
    let scaled = Int((Double(value) * scale).rounded())
    let digits = String(abs(scaled)).leftPadded(decimals + 1, with: "0")
    return (scaled < 0 ? "-" : " ") + digits.dropLast(decimals) + "." + digits.suffix(decimals)
}

/// A share of one in percent, with two decimals.
func percent(_ share: Float) -> String { fixed(share * 100, 2).leftPadded(6) + " %" }

extension String {
    func leftPadded(_ width: Int, with character: Character = " ") -> String {
        String(repeating: character, count: max(0, width - count)) + self
    }
}
