// Standard output, standard error, progress and signals.

import CLIPGPU
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Standard error, for people.
enum Terminal {
    static func say(_ line: String) { write(line + "\n") }

    static func write(_ text: String) {
        var text = text
        text.withUTF8 { _ = CLIPGPU.writeAll($0, to: 2) }
    }

    /// Whether progress may be shown.
    static let isInteractive = isatty(2) == 1

    /// Ends the process without running the destructors of loaded drivers: some crash in theirs.
    static func exit(_ status: ExitStatus) -> Never {
        fflush(nil)
        _exit(status.rawValue)
    }
}

/// Standard output, for data.
enum StandardOutput {
    static func write(_ text: String) throws {
        var text = text
        try text.withUTF8 { bytes in
            let code = CLIPGPU.writeAll(bytes, to: 1)
            if code == EPIPE { throw OutputClosed() }
            if code != 0 {
                throw Failure(.output, "standard output cannot be written: \(String(cString: strerror(code))).")
            }
        }
    }
}

/// Ctrl-C and termination: remembered, and acted upon between two inputs, so that files are left whole.
enum Interruption {
    private static let received = Atomic<Int32>(0)
    /// An empty file, open.
    private static let nothing = Atomic<Int32>(-1)

    static func install() {
        signal(SIGPIPE, SIG_IGN)
        // A parent may have blocked the signals for its own threads, and children inherit that.
        var signals = sigset_t()
        sigemptyset(&signals)
        sigaddset(&signals, SIGINT)
        sigaddset(&signals, SIGTERM)
        pthread_sigmask(SIG_UNBLOCK, &signals, nil)
        let empty = open("/dev/null", O_RDONLY)
        nothing.store(fcntl(empty, F_DUPFD_CLOEXEC, 3), ordering: .relaxed)
        close(empty)
        for number in [SIGINT, SIGTERM] {
            var action = sigaction()
            action.__sigaction_handler.sa_handler = { number in
                Interruption.received.store(number, ordering: .relaxed)
                // A read that waits for standard input is interrupted; one that is only about to begin ends at once.
                dup2(Interruption.nothing.load(ordering: .relaxed), 0)
                signal(number, SIG_DFL)  // The second one ends the process at once.
            }
            sigaction(number, &action, nil)  // Without SA_RESTART: waiting for input ends as well.
        }
    }

    static var happened: Bool { received.load(ordering: .relaxed) != 0 }

    /// Ends the command where a signal came, saying what became of its work.
    static func check(kept: String = "nothing was left under the output's name") throws {
        switch received.load(ordering: .relaxed) {
        case 0: return
        case SIGTERM: throw Failure(.terminated, "terminated: \(kept).")
        default: throw Failure(.interrupted, "interrupted: \(kept).")
        }
    }
}

/// One line that counts, with rate and time left; on terminals only.
struct Progress {
    private let start = ContinuousClock.now
    private var lastShown = ContinuousClock.now
    private var width = 0
    private(set) var done = 0
    private(set) var failed = 0
    /// Inputs altogether, where known.
    private let total: () -> Int?
    private let isShown: Bool

    init(isShown: Bool = true, total: @escaping () -> Int?) {
        self.total = total
        self.isShown = isShown && Terminal.isInteractive
    }

    mutating func advance(failed isFailure: Bool) {
        done += 1
        if isFailure { failed += 1 }
        let now = ContinuousClock.now
        guard isShown, now - lastShown > .milliseconds(200) else { return }
        lastShown = now
        let rate = Double(done) / max(seconds, 1e-9)
        var line = "\(done)"
        if let total = total() {
            line += " of \(total), \(rounded(rate))/s"
            if total > done, rate > 0 { line += ", \(duration(Double(total - done) / rate)) left" }
        } else {
            line += ", \(rounded(rate))/s"
        }
        if failed > 0 { line += ", \(failed) failed" }
        Terminal.write("\r" + line + String(repeating: " ", count: max(0, width - line.count)))
        width = line.count
    }

    /// Clears the line, so that what is said next stands alone.
    mutating func clear() {
        if width > 0 { Terminal.write("\r" + String(repeating: " ", count: width) + "\r") }
        width = 0
    }

    var seconds: Double {
        let elapsed = ContinuousClock.now - start
        return Double(elapsed.components.seconds) + Double(elapsed.components.attoseconds) * 1e-18
    }
}

extension Progress {
    /// What a command that embeds says at its end.
    func summary(_ clip: CLIP) -> String {
        let embedded = done - failed
        let busy = clip.busySeconds.map { "\(Int((min($0 / seconds, 1) * 100).rounded())) %" }
        return "embedded \(embedded) in \(rounded(seconds)) s, \(rounded(Double(embedded) / seconds))/s, "
            + (busy.count > 1 ? "devices busy " : "device busy ") + busy.joined(separator: ", ")
            + (failed > 0 ? "; \(failed) failed" : "")
    }
}

/// Three significant digits.
func rounded(_ value: Double) -> String {
    if value >= 100 || value == 0 { return "\(Int(value.rounded()))" }
    let scale = value >= 10 ? 10.0 : value >= 1 ? 100.0 : 1000.0
    return "\((value * scale).rounded() / scale)"
}

/// "1 min 20 s".
func duration(_ seconds: Double) -> String {
    let whole = Int(seconds.rounded(.up))
    if whole >= 3600 { return "\(whole / 3600) h \(whole % 3600 / 60) min" }
    if whole >= 60 { return "\(whole / 60) min \(whole % 60) s" }
    return "\(whole) s"
}
