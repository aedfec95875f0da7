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
              clip-gpu classify photos.safetensors --label beach --label city      (what `clip-gpu index` made of photos/)
              clip-gpu classify photos/ --labels imagenet --templates openai --save-labels imagenet.safetensors
              clip-gpu classify photos/ --labels imagenet.safetensors              (at once, from then on)
            """)

    @Argument(
        help: ArgumentHelp(
            "Pictures, folders, .npy files of pixels, .tar archives, .safetensors of pictures' vectors, or - for paths on "
                + "standard input.",
            valueName: "input"))
    var inputs: [String] = []

    @Option(
        name: .long, parsing: .unconditionalSingleValue,
        help: ArgumentHelp("A label; may be given many times.", valueName: "label"))
    var label: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "A file of labels, one a line; imagenet for the names of ImageNet's 1000 classes; or what --save-labels kept.",
            valueName: "file"))
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
        let parts = try parts()
        let (clip, classifier) = try templates.classifier(
            labels, of: parts.compactMap(\.collection), hasPictures: parts.contains { $0.collection == nil }, model,
            compute)
        var failed = 0
        for part in parts {
            if let collection = part.collection {
                failed += try classify(collection, classifier)
                continue
            }
            failed += try compute.embed(EmbeddingInputs(paths: part.paths), clip, pictures.preparation) {
                result, image in
                try report(result.name, classifier.classify(image, top: top)[0])
            }
        }
        if failed > 0 { throw Failure(.someFailed) }
    }

    /// The inputs in their order: files of vectors, and the pictures between them.
    private func parts() throws -> [(paths: [String], collection: EmbeddingCollection?)] {
        var parts: [(paths: [String], collection: EmbeddingCollection?)] = []
        for input in inputs {
            if input.hasSuffix(".safetensors") {
                parts.append(([], try givenRightly { try EmbeddingCollection(contentsOf: input) }))
            } else if let last = parts.last, last.collection == nil {
                parts[parts.count - 1].paths.append(input)
            } else {
                parts.append(([input], nil))
            }
        }
        return parts
    }

    /// The rows of a file; those that are no vectors' directions are named.
    ///
    /// - Returns: how many those were.
    private func classify(_ collection: EmbeddingCollection, _ classifier: ZeroShotClassifier) throws -> Int {
        var failed = 0
        for row in 0..<collection.count {
            try Interruption.check()
            let (name, image) = (try collection.input(row), collection.rows(row..<(row + 1)))
            if !image.values.allSatisfy(\.isFinite) || image.values.allSatisfy({ $0 == 0 }) {
                failed += 1
                Terminal.say(
                    "failed: \(name): row \(row) of \(collection.path) is no direction: expected finite numbers, not all zero."
                )
                continue
            }
            try report(name, givenRightly { try classifier.classify(image, top: top)[0] })
        }
        return failed
    }

    private func allLabels() throws -> Labels {
        var all = label
        if let labels {
            switch try templates.labels(labels) {
            case .words(let words): all += words
            case .vectors(let file):
                if label.isEmpty { return .vectors(file) }
                throw Failure(.usage, "\(labels) holds labels' vectors: --label does not go with it.")
            }
        }
        if all.isEmpty { throw Failure(.usage, "nothing to classify by: give at least one --label, or --labels.") }
        // Two pairs of ImageNet's classes have the same name; elsewhere it is a slip that would halve probabilities.
        var seen: Set<String> = []
        if labels != "imagenet", let twice = all.first(where: { !seen.insert($0).inserted }) {
            throw Failure(.usage, "the label \(JSONText.quoted(twice)) is given twice: give each label once.")
        }
        return .words(all)
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
