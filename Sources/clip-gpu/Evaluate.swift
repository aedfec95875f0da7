// clip-gpu evaluate: how often the label that fits a picture best is the right one.

import ArgumentParser
import CLIPGPU

struct Evaluate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Zero-shot accuracy on a folder with one subfolder for each class, or retrieval recall on pairs.",
        discussion: """
            The classes are the subfolders in the order of their names, as torchvision's ImageFolder has them; a class is \
            called what its subfolder is called, with spaces for underscores, unless --labels says otherwise. Accuracy and mean \
            per-class recall are those of open_clip and of CLIP_benchmark. Pictures that fail are not counted.

            With --pairs, FOLDER is what `clip-gpu score` takes, such as a list of pictures with their sentences: how often a \
            sentence finds its picture among the best 1, 5 and 10 of all, and a picture one of its sentences (CLIP_benchmark's \
            image_retrieval_recall and text_retrieval_recall).

            Examples:
              clip-gpu evaluate flowers/ --template "a {}, a type of flower." --model RN50
              clip-gpu evaluate imagenet/val --labels imagenet --templates openai --json
              clip-gpu evaluate --pairs coco.tsv --model ViT-B/32
            """)

    @Argument(
        help: ArgumentHelp(
            "A folder of folders of pictures; with --pairs a list, an archive or a folder of pairs.",
            valueName: "folder"))
    var folder: String

    @Flag(name: .long, help: "Retrieval on pairs of pictures and sentences, instead of classification.")
    var pairs = false

    @Option(
        name: .long,
        help: ArgumentHelp(
            "A file with a label for each subfolder, one a line, in the order of the subfolders' names; imagenet for the "
                + "names of ImageNet's 1000 classes; or what --save-labels kept.", valueName: "file"))
    var labels: String?

    @Option(
        name: .long,
        help: ArgumentHelp("How many best labels the second accuracy looks at.", valueName: "count"))
    var top = 5

    @Flag(
        name: .long,
        help: ArgumentHelp(
            "One JSON object: pictures, failed, classes, acc1, acc5, mean_per_class_recall, confusions; with --pairs: pictures, "
                + "texts, failed and recalls."))
    var json = false

    @OptionGroup(title: "Templates") var templates: TemplateOptions
    @OptionGroup(title: "Pictures") var pictures: PictureOptions
    @OptionGroup(title: "Model") var model: ModelOptions
    @OptionGroup(title: "Device") var compute: ComputeOptions

    func validate() throws {
        if top < 2 { throw ValidationError("--top takes a number from 2, not \(top).") }
        if pairs, labels != nil || templates.areGiven {
            throw ValidationError("--pairs goes without --labels, --template, --templates and --save-labels.")
        }
    }

    func run() throws {
        if pairs { return try evaluatePairs() }
        let folders = try givenRightly { try ClassFolders(contentsOf: folder) }
        let labels = try allLabels(folders)
        let (clip, classifier) = try templates.classifier(labels, model, compute)
        var accuracy = ZeroShotAccuracy(classes: labels.count, top: top)
        let failed = try compute.embed(folders.inputs, clip, pictures.preparation, showsProgress: true) {
            result, image in
            guard let expected = folders.index(of: result.name) else { return }
            accuracy.count(try classifier.cosines(of: image)[0], of: expected)
        }
        if accuracy.pictures == 0 { throw Failure(.someFailed, "\(folder) holds no picture that could be embedded.") }
        try report(accuracy, classifier.labels, failed)
        if failed > 0 { throw Failure(.someFailed) }
    }

    private func evaluatePairs() throws {
        let clip = try compute.load(model)
        var recall = RetrievalRecall()
        let failed = try compute.embedPairs(
            EmbeddingPairs([folder]), clip, pictures.preparation, truncate: templates.length.truncate
        ) { result, vectors in
            recall.add(result.name, image: vectors.image, text: vectors.text)
        }
        if recall.texts == 0 { throw Failure(.someFailed, "\(folder) holds no pair that could be embedded.") }
        let recalls = recall.recalls(at: [1, 5, 10])
        if json {
            let shares = recalls.flatMap {
                [
                    "\"image_retrieval_recall@\($0.count)\": \($0.image)",
                    "\"text_retrieval_recall@\($0.count)\": \($0.text)",
                ]
            }
            try StandardOutput.write(
                "{\"pictures\": \(recall.images), \"texts\": \(recall.texts), \"failed\": \(failed), "
                    + "\(shares.joined(separator: ", "))}\n")
        } else {
            var lines =
                "\(recall.images) pictures, \(recall.texts) sentences\(failed > 0 ? ", \(failed) pairs failed" : "")\n"
            for share in recalls {
                lines += "  \(percent(Float(share.image)))  sentences whose picture is among the best \(share.count)\n"
            }
            for share in recalls {
                lines +=
                    "  \(percent(Float(share.text)))  pictures of which a sentence is among the best \(share.count)\n"
            }
            try StandardOutput.write(lines)
        }
        if failed > 0 { throw Failure(.someFailed) }
    }

    private func allLabels(_ folders: ClassFolders) throws -> Labels {
        guard let source = labels else { return .words(folders.labels) }
        let labels = try templates.labels(source)
        guard labels.count == folders.names.count else {
            throw Failure(
                .usage,
                "\(source) holds \(labels.count) labels, and \(folder) \(folders.names.count) subfolders: expected a label for "
                    + "each, in the order of their names.")
        }
        return labels
    }

    private func report(_ accuracy: ZeroShotAccuracy, _ labels: [String], _ failed: Int) throws {
        let confusions = accuracy.confusions.prefix(5)
        if json {
            let confused = confusions.map {
                "{\"label\": \(JSONText.quoted(labels[$0.expected])), "
                    + "\"taken_for\": \(JSONText.quoted(labels[$0.predicted])), \"pictures\": \($0.pictures)}"
            }
            try StandardOutput.write(
                "{\"pictures\": \(accuracy.pictures), \"failed\": \(failed), \"classes\": \(accuracy.classes), "
                    + "\"acc1\": \(accuracy.accuracy), \"acc\(top)\": \(accuracy.topAccuracy?.description ?? "null"), "
                    + "\"mean_per_class_recall\": \(accuracy.meanPerClassRecall), "
                    + "\"confusions\": [\(confused.joined(separator: ", "))]}\n")
            return
        }
        let pictures = accuracy.pictures
        var lines = "\(pictures) pictures of \(accuracy.classes) classes\(failed > 0 ? ", \(failed) failed" : "")\n"
        func add(_ name: String, _ share: Double, _ counted: String = "") {
            lines += "  \(percent(Float(share)))  \(name)\(counted)\n"
        }
        add("top-1 accuracy", accuracy.accuracy, ", \(accuracy.right) of \(pictures)")
        if let share = accuracy.topAccuracy {
            add("top-\(top) accuracy", share, ", \(accuracy.amongTop) of \(pictures)")
        }
        add("mean per-class recall", accuracy.meanPerClassRecall)
        if !confusions.isEmpty { lines += "most often taken for another\n" }
        for confusion in confusions {
            lines +=
                "  \(confusion.pictures)  \(labels[confusion.expected]), taken for \(labels[confusion.predicted])\n"
        }
        try StandardOutput.write(lines)
    }
}
