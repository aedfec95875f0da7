// What many tasks ask of one model, as batches: the oldest input first, and with it whatever goes into the same batch.

import Synchronization

final class RequestQueue: Sendable {
    enum Inputs: Sendable {
        /// `[side, side, 3]` each.
        case bytes([[UInt8]])
        /// `[3, side, side]` each, normalised.
        case floats([[Float]])
        /// Not padded.
        case tokens([[Int32]])

        var count: Int {
            switch self {
            case .bytes(let pictures): pictures.count
            case .floats(let pictures): pictures.count
            case .tokens(let texts): texts.count
            }
        }

        /// Whether both go into one batch.
        func goes(with other: Inputs) -> Bool {
            switch (self, other) {
            case (.bytes, .bytes), (.floats, .floats), (.tokens, .tokens): true
            default: false
            }
        }
    }

    /// The inputs of one call, which get their rows in order, from one batch or from several.
    final class Request: Sendable {
        private struct State {
            var continuation: CheckedContinuation<[Float], any Error>?
            var failure: (any Error)?
            var rows: [Float] = []
            var missing: Int
        }
        let inputs: Inputs
        private let state: Mutex<State>

        init(_ inputs: Inputs) {
            self.inputs = inputs
            state = Mutex(State(missing: inputs.count))
        }

        func wait(_ continuation: CheckedContinuation<[Float], any Error>) {
            let failure = state.withLock { state in
                if state.failure == nil { state.continuation = continuation }
                return state.failure
            }
            if let failure { continuation.resume(throwing: failure) }
        }

        /// Whether somebody waits for the rows still.
        var isAwaited: Bool { state.withLock { $0.continuation != nil } }

        /// The rows of the next `count` inputs.
        func add(_ rows: ArraySlice<Float>, count: Int) {
            let finished: (CheckedContinuation<[Float], any Error>, [Float])? = state.withLock { state in
                state.rows += rows
                state.missing -= count
                guard state.missing == 0, let continuation = state.continuation.take() else { return nil }
                return (continuation, state.rows)
            }
            if let (continuation, rows) = finished { continuation.resume(returning: rows) }
        }

        func fail(_ error: any Error) {
            let continuation = state.withLock { state in
                state.failure = error
                return state.continuation.take()
            }
            continuation?.resume(throwing: error)
        }
    }

    /// How many rows of a batch are a request's.
    typealias Share = (request: Request, count: Int)

    private struct State {
        /// With the first input that is in no batch yet.
        var waiting: [(request: Request, next: Int)] = []
        var isWorkedOn = false
        var statistics = CLIPService.Statistics()
    }
    private let state = Mutex(State())

    /// Whether somebody must begin to work.
    func add(_ request: Request) -> Bool {
        state.withLock { state in
            state.waiting.append((request, 0))
            defer { state.isWorkedOn = true }
            return !state.isWorkedOn
        }
    }

    /// The next batch, of at most so many inputs; none where nobody waits, or, with `onlyFull`, fewer would be in it.
    func next(images: Int, texts: Int, onlyFull: Bool) -> (batch: EmbeddingBatch, shares: [Share])? {
        state.withLock { state in
            state.waiting.removeAll { !$0.request.isAwaited }
            guard let first = state.waiting.first?.request.inputs else { return nil }
            var bytes: [UInt8] = []
            var floats: [Float] = []
            var tokens: [[Int32]] = []
            var shares: [Share] = []
            var isText = false
            if case .tokens = first { isText = true }
            var room = isText ? texts : images
            if onlyFull {
                let waiting = state.waiting.reduce(0) {
                    $0 + ($1.request.inputs.goes(with: first) ? $1.request.inputs.count - $1.next : 0)
                }
                if waiting < room { return nil }
            }
            for index in state.waiting.indices where room > 0 {
                let (request, next) = state.waiting[index]
                guard request.inputs.goes(with: first) else { continue }
                let end = min(next + room, request.inputs.count)
                switch request.inputs {
                case .bytes(let pictures): bytes += pictures[next..<end].joined()
                case .floats(let pictures): floats += pictures[next..<end].joined()
                case .tokens(let texts): tokens += texts[next..<end]
                }
                state.waiting[index].next = end
                shares.append((request, end - next))
                room -= end - next
            }
            state.waiting.removeAll { $0.next == $0.request.inputs.count }
            let count = shares.reduce(0) { $0 + $1.count }
            if isText { state.statistics.texts += count } else { state.statistics.images += count }
            state.statistics.batches += 1
            switch first {
            case .bytes: return (.bytes(bytes), shares)
            case .floats: return (.floats(floats), shares)
            case .tokens: return (.tokens(tokens), shares)
            }
        }
    }

    /// Whether there is nothing to do; the next request must then begin work anew.
    func endsWork() -> Bool {
        state.withLock { state in
            if state.waiting.isEmpty { state.isWorkedOn = false }
            return state.waiting.isEmpty
        }
    }

    func report(busySeconds: [Double]) { state.withLock { $0.statistics.busySeconds = busySeconds } }

    var statistics: CLIPService.Statistics {
        state.withLock { state in
            var statistics = state.statistics
            statistics.waiting = state.waiting.reduce(0) { $0 + $1.request.inputs.count - $1.next }
            return statistics
        }
    }
}
