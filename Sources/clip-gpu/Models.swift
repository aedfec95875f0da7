// clip-gpu models: what there is by name, and what of it is on this machine.

import ArgumentParser
import CLIPGPU

struct Models: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Models that have names: size, licence, resolution, dimension, and whether they are on this machine.",
        discussion: """
            OpenAI's nine, the weights that open_clip knows and this command can open, and whatever else of Hugging Face's \
            hub is on this machine. Any other model of the hub is named hf:owner/name, or hf:owner/name@revision. A size with \
            ~ is reckoned, with four bytes a parameter; what a hub holds it says when it is asked.

            Examples:
              clip-gpu models
              clip-gpu models --on-disk --json
            """)

    @Flag(name: .long, help: "Only those on this machine.")
    var onDisk = false

    @Flag(name: .long, help: "One JSON object a model.")
    var json = false

    func run() throws {
        let models = CLIP.models().filter { !onDisk || $0.path != nil }
        if json {
            for model in models { try StandardOutput.write(object(model) + "\n") }
            return
        }
        var rows = [["name", "parameters", "size", "licence", "pixels", "dimension", "on disk"]]
        rows += models.map { model in
            [
                model.name, model.parameters.map { "\($0 / 1_000_000) M" } ?? "-",
                model.size.map(Bytes.text) ?? model.parameters.map { "~" + Bytes.text(4 * $0) } ?? "-",
                model.licence ?? "-", model.imageSize.map(String.init) ?? "-",
                model.embeddingDimension.map(String.init) ?? "-",
                model.path == nil ? "no" : "yes",
            ]
        }
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        for row in rows {
            let line = zip(row, widths).map { $0.rightPadded($1) }.joined(separator: "  ")
            try StandardOutput.write(String(line.reversed().drop { $0 == " " }.reversed()) + "\n")
        }
    }

    private func object(_ model: NamedModel) -> String {
        func text(_ value: String?) -> String { value.map(JSONText.quoted) ?? "null" }
        func number(_ value: Int?) -> String { value.map(String.init) ?? "null" }
        return
            "{\"name\": \(text(model.name)), \"parameters\": \(number(model.parameters)), \"size\": \(number(model.size)), \"licence\": \(text(model.licence)), "
            + "\"image_size\": \(number(model.imageSize)), \"dimension\": \(number(model.embeddingDimension)), "
            + "\"path\": \(text(model.path))}"
    }
}

/// Sizes for people.
enum Bytes {
    /// "338 MB": millions and thousands of millions, as downloads are counted.
    static func text(_ count: Int) -> String {
        if count >= 1_000_000_000 { return "\(Double(count / 10_000_000) / 100) GB" }
        return count >= 1_000_000 ? "\(count / 1_000_000) MB" : "\((count + 999) / 1000) kB"
    }
}
