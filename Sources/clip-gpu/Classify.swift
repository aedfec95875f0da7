// clip-gpu classify: which labels fit pictures best.

import ArgumentParser
import CLIPGPU

struct Classify: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Pictures by the labels that fit them best: zero-shot classification.",
        discussion: """
            Every template is filled in with every label; a label's vector is the mean of its sentences', as open_clip's \
            build_zero_shot_classifier makes it. A picture's probabilities are those of `clip-gpu similarity`, over all labels, \
            of which the best are shown.

            Examples:
              clip-gpu classify photos/ --label cat --label dog --label "fire engine"
              clip-gpu classify cat.jpg --labels imagenet --templates openai --model RN50
              clip-gpu classify photos.tar --labels birds.txt --template "a {}, a bird."
              find / -name '*.jpg' | clip-gpu classify - --labels birds.txt --json
            """)

    @Argument(
        help: ArgumentHelp(
            "Pictures, folders, .npy files of pixels, .tar archives, or - for paths on standard input.",
            valueName: "input"))
    var inputs: [String] = []

    @Option(
        name: .long, parsing: .unconditionalSingleValue,
        help: ArgumentHelp("A label; may be given many times.", valueName: "label"))
    var label: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "A file of labels, one a line, or imagenet for the names of ImageNet's 1000 classes.", valueName: "file"))
    var labels: String?

    @Option(name: .long, help: ArgumentHelp("Labels to show for each picture.", valueName: "count"))
    var top = 5

    @Flag(name: .long, help: "One JSON object a line: image, and the best labels with cosines and probabilities.")
    var json = false

    @OptionGroup(title: "Templates") var templates: TemplateOptions
    @OptionGroup(title: "Pictures") var pictures: PictureOptions
    @OptionGroup(title: "Model") var model: ModelOptions
    @OptionGroup(title: "Device") var compute: ComputeOptions

    func validate() throws {
        if top < 1 { throw ValidationError("--top takes a number from 1, not \(top).") }
    }

    func run() throws {
        if inputs.isEmpty {
            throw Failure(
                .usage, "nothing to classify: name pictures or folders. `clip-gpu classify --help` has examples.")
        }
        let labels = try allLabels()
        let sentences = try templates.all()
        let clip = try compute.load(model)
        let classifier = try templates.classifier(
            clip, labels: labels, templates: sentences, batchSize: compute.batchSize)
        let failed = try compute.embed(EmbeddingInputs(paths: inputs), clip, pictures.preparation) { result, image in
            try report(result.name, classifier.classify(image, top: top)[0])
        }
        if failed > 0 { throw Failure(.someFailed) }
    }

    private func allLabels() throws -> [String] {
        var all = label
        if let labels { all += try givenRightly { try ZeroShotClassifier.labels(labels) } }
        if all.isEmpty { throw Failure(.usage, "nothing to classify by: give at least one --label, or --labels.") }
        // Two pairs of ImageNet's classes have the same name; elsewhere it is a slip that would halve probabilities.
        var seen: Set<String> = []
        if labels != "imagenet", let twice = all.first(where: { !seen.insert($0).inserted }) {
            throw Failure(.usage, "the label \(JSONText.quoted(twice)) is given twice: give each label once.")
        }
        return all
    }

    private func report(_ image: String, _ matches: [ZeroShotClassifier.Match]) throws {
        if json {
            let labels = matches.map { JSONText.quoted($0.label) }.joined(separator: ", ")
            try StandardOutput.write(
                "{\"image\": \(JSONText.quoted(image)), \"labels\": [\(labels)], "
                    + "\"cosines\": \(JSONText.array(matches.map(\.cosine))), "
                    + "\"probabilities\": \(JSONText.array(matches.map(\.probability)))}\n")
            return
        }
        try StandardOutput.write(
            image + "\n" + matches.map { "  \(percent($0.probability))  \($0.label)\n" }.joined())
    }
}
