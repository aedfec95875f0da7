// clip-gpu tokenize: the ids that a model reads.

import ArgumentParser
import CLIPGPU

struct Tokenize: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Token ids of sentences, padded to the context length.",
        discussion: """
            A JSON array of ids a line, as `clip.tokenize` gives them. No weights are loaded; without --model or \
            --tokenizer the tokenizer is OpenAI's.

            Examples:
              clip-gpu tokenize "a photo of a cat"
              clip-gpu tokenize --json-lines captions.jsonl --truncate
              clip-gpu tokenize --model siglip-base-patch16-224 "a photo of a cat"
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

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Ids to a sentence, start and end included. (default: the model's, else 77)", valueName: "count"))
    var contextLength: Int?

    @Option(
        name: .long,
        help: ArgumentHelp("The model whose tokenizer to use: a name, a folder or a file.", valueName: "model"))
    var model: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "A folder of tokenizer files, read as transformers' AutoTokenizer reads them.", valueName: "folder"))
    var tokenizer: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "With --tokenizer: clean texts first as open_clip does, by whitespace, lower or canonicalize.",
            valueName: "mode"))
    var clean: String?

    @Flag(name: .long, help: "With --tokenizer: make separators 0, as open_clip does for CLIPA.")
    var stripSepToken = false

    func validate() throws {
        if model != nil, tokenizer != nil { throw ValidationError("--model and --tokenizer exclude each other.") }
        if clean != nil || stripSepToken, tokenizer == nil {
            throw ValidationError("--clean and --strip-sep-token go with --tokenizer.")
        }
        if let contextLength, !(2...largestCount).contains(contextLength) {
            throw ValidationError("--context-length takes a number from 2 to \(largestCount), not \(contextLength).")
        }
    }

    func run() throws {
        if sentences.isEmpty && jsonLines == nil {
            throw Failure(.usage, "nothing to tokenize: give sentences, or --json-lines.")
        }
        let tokenizer = try makeTokenizer()
        var failed = 0
        var output = ""
        func fail(_ error: CLIPError) {
            failed += 1
            Terminal.say("failed: \(error.description)")
        }
        func tokenize(_ sentence: String) throws {
            do {
                output += JSONText.array(try tokenizer.tokenize(sentence, truncate: truncate)) + "\n"
            } catch let error as CLIPError {
                fail(error)
            }
            if output.utf8.count > 1 << 16 {
                try StandardOutput.write(output)
                output = ""
                try Interruption.check()
            }
        }
        for sentence in sentences { try tokenize(sentence) }
        if let jsonLines {
            try JSONText.forEachString(inLinesOf: jsonLines, onFailure: fail) { try tokenize($0) }
        }
        try Interruption.check()
        try StandardOutput.write(output)
        if failed > 0 { throw Failure(.someFailed) }
    }

    private func makeTokenizer() throws -> Tokenizer {
        if let tokenizer {
            return try Tokenizer(
                folder: tokenizer, cleaning: clean, stripsSeparator: stripSepToken, contextLength: contextLength ?? 77)
        }
        if let model { return try Tokenizer(model: model, contextLength: contextLength) }
        return Tokenizer(contextLength: contextLength ?? 77)
    }
}
