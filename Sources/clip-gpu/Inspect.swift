// clip-gpu inspect: what a checkpoint is, and how that is known.

import ArgumentParser
import CLIPGPU

struct Inspect: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "What a model is: architecture, sizes, activation, pooling, and where each was read from.",
        discussion: """
            Examples:
              clip-gpu inspect models/clip-vit-base-patch32
              clip-gpu inspect models/clip-vit-base-patch32 --json
            """)

    @Argument(
        help: ArgumentHelp(
            "A name, a folder of transformers or of open_clip, or a file of OpenAI's or open_clip's weights. Default: "
                + "$CLIP_GPU_MODEL, else the demonstration model.", valueName: "model"))
    var model: String?

    @OptionGroup var overrides: OverrideOptions

    @Flag(name: .long, help: "One JSON object: name to value and source.")
    var json = false

    func run() throws {
        let display = DownloadDisplay()
        defer { display.clear() }
        let information = try CLIP.inspect(
            ModelOptions.resolved(model), activation: overrides.activation, imageSize: overrides.imageSize,
            progress: display.show)
        display.clear()
        if json {
            let members = information.facts.map {
                "  \(JSONText.quoted($0.name)): {\"value\": \(JSONText.quoted($0.value)), "
                    + "\"source\": \(JSONText.quoted($0.source))}"
            }
            try StandardOutput.write("{\n" + members.joined(separator: ",\n") + "\n}\n")
            return
        }
        let nameWidth = information.facts.map(\.name.count).max() ?? 0
        let valueWidth = information.facts.map(\.value.count).filter { $0 < 40 }.max() ?? 0
        for fact in information.facts {
            try StandardOutput.write(
                fact.name.rightPadded(nameWidth) + "  " + fact.value.rightPadded(valueWidth) + "  " + fact.source + "\n"
            )
        }
    }
}

extension String {
    func rightPadded(_ width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
