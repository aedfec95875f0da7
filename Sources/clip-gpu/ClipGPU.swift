// The command: arguments in, rows out. Everything it does is a call of the library.

import ArgumentParser
import CLIPGPU

@main
struct ClipGPU: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "clip-gpu",
        abstract: "CLIP for every chip: pictures and sentences into vectors of one space.",
        discussion: """
            Standard output carries data only; everything else goes to standard error.

            Exit codes: 0 all done; 1 some inputs failed, the others are written; 2 wrong usage, or nothing to do; \
            3 device or precision; 4 model; 5 output; 130 and 143 interrupted.
            """,
        version: clipGPUVersion,
        subcommands: [
            Embed.self, Index.self, Search.self, Serve.self, Similarity.self, Score.self, Classify.self, Evaluate.self,
            Tokenize.self, Preprocess.self, Inspect.self, Models.self, Download.self, Devices.self, Bench.self,
            Tune.self,
        ])

    static func main() {
        Interruption.install()
        do {
            var command = try parseAsRoot()
            try command.run()
            Terminal.exit(.success)
        } catch let failure as Failure {
            if !failure.sentence.isEmpty { Terminal.say("error: \(failure.sentence)") }
            Terminal.exit(failure.status)
        } catch let error as CLIPError {
            Terminal.say("error: \(error.description)")
            Terminal.exit(ExitStatus(error.code))
        } catch is OutputClosed {
            Terminal.exit(.success)  // Whoever read the output has seen enough.
        } catch {
            let status = exitCode(for: error)
            let message = fullMessage(for: error)
            if status.isSuccess {
                try? StandardOutput.write(message + "\n")
                Terminal.exit(.success)
            }
            Terminal.say(message)
            Terminal.exit(.usage)
        }
    }
}

/// How the command ends.
enum ExitStatus: Int32 {
    case success = 0
    /// Some inputs failed; the others were written.
    case someFailed = 1
    /// Wrong usage, or no input at all.
    case usage = 2
    case device = 3
    case model = 4
    case output = 5
    case interrupted = 130
    case terminated = 143

    init(_ code: CLIPError.Code) {
        switch code {
        case .device: self = .device
        case .model: self = .model
        case .output: self = .output
        default: self = .someFailed
        }
    }
}

/// Ends the command with a sentence and a status.
struct Failure: Error {
    let status: ExitStatus
    let sentence: String

    init(_ status: ExitStatus, _ sentence: String = "") {
        self.status = status
        self.sentence = sentence
    }
}
