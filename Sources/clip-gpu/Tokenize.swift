// clip-gpu tokenize: the ids that a model reads.

import ArgumentParser
import CLIPGPU

struct Tokenize: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Token ids of sentences, padded to the context length.",
        discussion: """
            A JSON array of ids a line, as `clip.tokenize` gives them. No model is loaded.

            Examples:
              clip-gpu tokenize "a photo of a cat"
              clip-gpu tokenize --json-lines captions.jsonl --truncate
            """)

    @Argument(help: ArgumentHelp("Sentences.", valueName: "sentence"))
    var sentences: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "A file of sentences, one a line, each a JSON string; - is standard input.", valueName: "file"))
    var jsonLines: String?

    @Flag(name: .long, help: "Cut sentences that are longer than the context, instead of refusing them.")
    var truncate = false

    @Option(name: .long, help: ArgumentHelp("Ids to a sentence, start and end included.", valueName: "count"))
    var contextLength = 77

    func validate() throws {
        if contextLength < 2 { throw ValidationError("--context-length takes a number from 2, not \(contextLength).") }
    }

    func run() throws {
        if sentences.isEmpty && jsonLines == nil {
            throw Failure(.usage, "nothing to tokenize: give sentences, or --json-lines.")
        }
        let tokenizer = Tokenizer(contextLength: contextLength)
        var failed = 0
        var output = ""
        func tokenize(_ sentence: String) throws {
            do {
                output += JSONText.array(try tokenizer.tokenize(sentence, truncate: truncate)) + "\n"
            } catch let error as CLIPError {
                failed += 1
                Terminal.say("failed: \(error.description)")
            }
            if output.utf8.count > 1 << 16 {
                try StandardOutput.write(output)
                output = ""
                try Interruption.check()
            }
        }
        for sentence in sentences { try tokenize(sentence) }
        if let jsonLines {
            try JSONText.forEachString(inLinesOf: jsonLines) { try tokenize($0) }
        }
        try StandardOutput.write(output)
        if failed > 0 { throw Failure(.someFailed) }
    }
}
