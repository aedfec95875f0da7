// Prepares inputs on other threads, a bounded number ahead, and hands them over in order.

import Dispatch
import Synchronization

/// Inputs with what became of them, in order.
struct PreparationQueue<Inputs: Sequence<EmbeddingInput>> {
    private let preparer: Preparer
    /// Inputs that are prepared or being prepared at any time.
    private let window: Int
    private let queue = DispatchQueue(label: "clip-gpu.prepare", attributes: .concurrent)
    private var iterator: Inputs.Iterator
    private var exhausted = false
    private var waiting = Queue<(input: EmbeddingInput, prepared: ResultBox<PreparedInput>)>()

    init(_ inputs: Inputs, _ preparer: Preparer, window: Int) {
        iterator = inputs.makeIterator()
        self.preparer = preparer
        self.window = window
    }

    mutating func next() -> (input: EmbeddingInput, prepared: PreparedInput)? {
        while !exhausted, waiting.count < window {
            guard let input = iterator.next() else {
                exhausted = true
                break
            }
            let box = ResultBox<PreparedInput>()
            waiting.append((input, box))
            let preparer = preparer
            queue.async { box.set(preparer.prepare(input)) }
        }
        return waiting.popFirst().map { ($0.input, $0.prepared.wait()) }
    }
}

/// A value that one thread sets once and another waits for once.
package final class ResultBox<Value: Sendable>: Sendable {
    private let storage = Mutex<Value?>(nil)
    private let isSet = DispatchSemaphore(value: 0)

    func set(_ value: Value) {
        storage.withLock { $0 = value }
        isSet.signal()
    }

    /// The value, where it is set already.
    var value: Value? { storage.withLock { $0 } }

    package func wait() -> Value {
        while true {
            isSet.wait()
            if let value { return value }
        }
    }
}

/// First in, first out.
struct Queue<Element> {
    private var elements: [Element?] = []
    private var head = 0

    var count: Int { elements.count - head }
    var first: Element? { head < elements.count ? elements[head] : nil }

    mutating func append(_ element: Element) { elements.append(element) }

    mutating func popFirst() -> Element? {
        guard head < elements.count else { return nil }
        defer {
            elements[head] = nil
            head += 1
            if head > 256, head * 2 > elements.count {
                elements.removeFirst(head)
                head = 0
            }
        }
        return elements[head]
    }
}
