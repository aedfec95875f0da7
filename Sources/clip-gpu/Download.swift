// clip-gpu download: models onto this machine; and what is shown while any command fetches one.

import ArgumentParser
import CLIPGPU

struct Download: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Fetch models by name, and print where they are.",
        discussion: """
            A download that was interrupted goes on where it ended. Files are verified and get their names only when they are \
            whole. They lie where openai-clip (~/.cache/clip) and transformers and open_clip (HF_HOME, HF_HUB_CACHE) keep \
            theirs, and what these have fetched is not fetched again. HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE, \
            HF_HUB_DISABLE_SYMLINKS, HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE are honoured. A model that is on this machine is \
            used as it is; this command asks the hub for its newest revision.

            Examples:
              clip-gpu download ViT-B/32
              clip-gpu download ViT-B-32/laion2b_s34b_b79k hf:openai/clip-vit-base-patch32
            """)

    @Argument(
        help: ArgumentHelp("Names, as `clip-gpu models` lists them, or hf:owner/name[@revision].", valueName: "name"))
    var names: [String] = []

    func validate() throws {
        if names.isEmpty { throw ValidationError("Name at least one model; `clip-gpu models` lists them.") }
    }

    func run() throws {
        var failed = false
        for name in names {
            let display = DownloadDisplay()
            do {
                let path = try CLIP.download(name, progress: display.show)
                display.clear()
                try StandardOutput.write(path + "\n")
            } catch let error as CLIPError where error.code == .model {
                display.clear()
                Terminal.say("error: \(error.description)")
                failed = true
            }
        }
        if failed { throw Failure(.model) }
    }
}

/// Says once that a model is being fetched, and shows how far it is, the latter on terminals only.
final class DownloadDisplay {
    private var saidModel = false
    private var saidWaiting = false
    private var file = ""
    private var width = 0
    private var start = ContinuousClock.now
    private var startBytes = 0
    private var lastShown = ContinuousClock.now

    func show(_ progress: DownloadProgress) throws {
        if Interruption.happened {
            clear()
            try Interruption.check(kept: "what was fetched is kept, and the same command goes on from there")
        }
        if !saidModel {
            saidModel = true
            Terminal.say("model: fetching \(progress.model) into \(progress.folder)")
        }
        if progress.isWaiting {
            if !saidWaiting {
                clear()
                Terminal.say("model: waiting for another process that is fetching \(progress.file)")
            }
            saidWaiting = true
            return
        }
        let now = ContinuousClock.now
        if file != progress.file {
            file = progress.file
            start = now
            startBytes = progress.bytes
        }
        guard Terminal.isInteractive, now - lastShown > .milliseconds(200) else { return }
        lastShown = now
        let elapsed = Double((now - start).components.seconds) + Double((now - start).components.attoseconds) * 1e-18
        let rate = Double(progress.bytes - startBytes) / max(elapsed, 0.1)
        var line = "\(progress.file): \(Bytes.text(progress.bytes))"
        if let total = progress.total { line += " of \(Bytes.text(total))" }
        line += ", \(Bytes.text(Int(rate)))/s"
        if let total = progress.total, total > progress.bytes, rate > 1000 {
            line += ", \(duration(Double(total - progress.bytes) / rate)) left"
        }
        Terminal.write("\r" + line + String(repeating: " ", count: max(0, width - line.count)))
        width = line.count
    }

    /// Clears the line, so that what is said next stands alone.
    func clear() {
        if width > 0 { Terminal.write("\r" + String(repeating: " ", count: width) + "\r") }
        width = 0
    }
}
