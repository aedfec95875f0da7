// The product with a producer (Kernels/OpenCL/wgmma/producer.cl) as a model: its warps as lists of what they do in order, copies and
// multiplications that end when they like, and a scheduler that lets anything happen that may happen next. Emulation runs the
// kernel's own arithmetic of slots and parities, but in lock step; here is what the barriers are for.

import Testing

/// Ways to get it wrong, each of which the model has to find.
private enum ProtocolFault: CaseIterable {
    case none
    /// The parity of a slot's first use for all of them.
    case parityStays
    /// The slot of the step that was just begun is released, not that of the step before.
    case releasesEarly
    /// The producer announces copies of x that are still under way.
    case announcesEarly
    /// It arrives without the fence.
    case noFence
    /// One consumer warp is not waited for.
    case emptyCountsLess
    /// The weight's bytes are not announced.
    case expectsNoBytes
    /// A tile's last slot is not released.
    case keepsLast
    /// Four warps fill three slots.
    case manyFillers
    /// Consumers release a slot only when the next but one is multiplied, with two slots.
    case releasesLate
}

private struct ProducerModel {
    let stages: Int
    let steps: Int
    /// Tiles of this work-group.
    let own: Int
    let fault: ProtocolFault
    static let consumerWarps = 8
    static let producerWarps = 4

    /// A violation, or nothing.
    struct Violation: Error { let text: String }

    private struct Barrier {
        let arrivals: Int
        var missing: Int
        var bytes = 0
        /// Phases that it has completed.
        var completed = 0

        init(_ arrivals: Int) {
            self.arrivals = arrivals
            missing = arrivals
        }
        mutating func arrive() throws(Violation) {
            missing -= 1
            if missing < 0 { throw Violation(text: "more arrivals than a phase has") }
            finish()
        }
        mutating func finish() {
            if missing == 0 && bytes == 0 {
                completed += 1
                missing = arrivals
            }
        }
        func isPast(_ parity: Int) -> Bool { completed & 1 != parity }
    }

    private enum Action {
        /// `completed`: phases that should be over then.
        case waitFull(Int, parity: Int, completed: Int)
        case waitEmpty(Int, parity: Int, completed: Int)
        case fill(Int)
        case waitForCopies
        case announce(Int)
        case multiply(Int)
        case waitForMultiplies(pending: Int)
        case release(Int)
    }

    private enum Event {
        case xLands(step: Int)
        case weightLands(step: Int)
    }

    private struct Slot {
        /// Steps whose inputs it holds; none while they are written.
        var x: Int?
        var weight: Int?
        /// The writer of x has passed its fence.
        var isPublished = false
        var readers = 0
    }

    private var fillers: Int { fault == .manyFillers ? 4 : min(stages, Self.producerWarps) }
    private func slot(_ n: Int) -> Int { n % stages }
    private func parity(_ n: Int) -> Int { fault == .parityStays ? 0 : n / stages & 1 }

    private func producer(_ warp: Int) -> [Action] {
        stride(from: warp, to: warp < fillers ? own * steps : 0, by: fillers).flatMap { n -> [Action] in
            let wait = Action.waitEmpty(slot(n), parity: parity(n) ^ 1, completed: n / stages)
            return [wait, .fill(n)] + (fault == .announcesEarly ? [] : [.waitForCopies]) + [.announce(n)]
        }
    }

    private func consumer() -> [Action] {
        var actions: [Action] = []
        var n = 0
        for _ in 0..<own {
            for step in 0..<steps {
                actions += [
                    .waitFull(slot(n), parity: parity(n), completed: n / stages + 1), .multiply(n),
                    .waitForMultiplies(pending: 1),
                ]
                let late = fault == .releasesLate ? 2 : fault == .releasesEarly ? 0 : 1
                if step >= late { actions.append(.release(slot(n - late))) }
                n += 1
            }
            actions.append(.waitForMultiplies(pending: 0))
            if fault == .releasesLate && steps > 1 { actions.append(.release(slot(n - 2))) }
            if fault != .keepsLast && fault != .releasesEarly { actions.append(.release(slot(n - 1))) }
        }
        return actions
    }

    /// One course of events.
    func run(seed: UInt64) throws(Violation) {
        var state = seed
        func random(_ below: Int) -> Int {
            // SplitMix64.
            state &+= 0x9e37_79b9_7f4a_7c15
            var z = state
            z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
            z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
            return Int((z ^ z >> 31) % UInt64(below))
        }
        var full = [Barrier](repeating: Barrier(2), count: stages)
        var empty = [Barrier](
            repeating: Barrier(Self.consumerWarps - (fault == .emptyCountsLess ? 1 : 0)), count: stages)
        var slots = [Slot](repeating: Slot(), count: stages)
        let programs =
            (0..<Self.producerWarps).map(producer) + [[Action]](repeating: consumer(), count: Self.consumerWarps)
        var at = [Int](repeating: 0, count: programs.count)
        /// What each warp has under way: copies of x, multiplications in order.
        var copies = [[Int]](repeating: [], count: programs.count)
        var multiplies = copies
        var done = [Int](repeating: 0, count: programs.count)
        var events: [Event] = []
        // Some warps and events are slow in one course and quick in another.
        let haste = (0..<(programs.count + 3)).map { _ in 1 << random(6) }

        func isReady(_ warp: Int) -> Bool {
            guard at[warp] < programs[warp].count else { return false }
            switch programs[warp][at[warp]] {
            case .waitFull(let slot, let parity, _): return full[slot].isPast(parity)
            case .waitEmpty(let slot, let parity, _): return empty[slot].isPast(parity)
            case .waitForCopies: return copies[warp].isEmpty
            case .waitForMultiplies(let pending): return multiplies[warp].count <= pending
            default: return true
            }
        }
        func act(_ warp: Int) throws(Violation) {
            defer { at[warp] += 1 }
            switch programs[warp][at[warp]] {
            case .waitFull(let slot, _, let completed):
                guard full[slot].completed == completed else { throw Violation(text: "full: a wait for another phase") }
            case .waitEmpty(let slot, _, let completed):
                guard empty[slot].completed == completed else {
                    throw Violation(text: "empty: a wait for another phase")
                }
            case .fill(let n):
                let slot = slot(n)
                guard slots[slot].readers == 0 else { throw Violation(text: "a slot is filled that is read") }
                guard n < stages || slots[slot].x == n - stages && slots[slot].weight == n - stages else {
                    throw Violation(text: "a slot is filled twice at a time")
                }
                slots[slot] = Slot()
                if fault != .expectsNoBytes { full[slot].bytes += 1 }
                try full[slot].arrive()
                copies[warp].append(n)
                events += [.xLands(step: n), .weightLands(step: n)]
            case .announce(let n):
                if fault != .noFence { slots[slot(n)].isPublished = slots[slot(n)].x == n }
                try full[slot(n)].arrive()
            case .multiply(let n):
                let slot = slot(n)
                guard slots[slot].x == n, slots[slot].weight == n else {
                    throw Violation(text: "a slot is read that does not hold the step")
                }
                guard slots[slot].isPublished else { throw Violation(text: "x is read without a fence") }
                slots[slot].readers += 1
                multiplies[warp].append(n)
            case .release(let slot): try empty[slot].arrive()
            case .waitForCopies, .waitForMultiplies: break
            }
        }

        while true {
            // Warps that can go on, multiplications and copies that can end, each as often as it is hasty.
            var choices: [(weight: Int, number: Int)] = []
            for warp in programs.indices {
                if isReady(warp) { choices.append((haste[warp], warp)) }
                if !multiplies[warp].isEmpty { choices.append((haste[programs.count], 100 + warp)) }
            }
            for (index, event) in events.enumerated() {
                if case .xLands = event { choices.append((haste[programs.count + 1], 1000 + index)) }
                if case .weightLands = event { choices.append((haste[programs.count + 2], 1000 + index)) }
            }
            if choices.isEmpty { break }
            var left = random(choices.reduce(0) { $0 + $1.weight })
            var choice = 0
            while left >= choices[choice].weight {
                left -= choices[choice].weight
                choice += 1
            }
            let number = choices[choice].number
            switch number {
            case ..<100: try act(number)
            case ..<1000:
                let n = multiplies[number - 100].removeFirst()
                guard slots[slot(n)].x == n, slots[slot(n)].weight == n else {
                    throw Violation(text: "a slot was filled while it was read")
                }
                slots[slot(n)].readers -= 1
                guard n == done[number - 100] else { throw Violation(text: "a step is left out") }
                done[number - 100] += 1
            default:
                switch events.remove(at: number - 1000) {
                case .xLands(let n):
                    slots[slot(n)].x = n
                    copies[n % fillers].removeAll { $0 == n }
                case .weightLands(let n):
                    slots[slot(n)].weight = n
                    if fault != .expectsNoBytes {
                        full[slot(n)].bytes -= 1
                        full[slot(n)].finish()
                    }
                }
            }
        }
        guard zip(at, programs).allSatisfy({ $0 == $1.count }) else { throw Violation(text: "all wait for each other") }
        guard done.dropFirst(Self.producerWarps).allSatisfy({ $0 == own * steps }) else {
            throw Violation(text: "a step was not multiplied")
        }
    }
}

@Suite struct ProducerProtocolTests {
    @Test(
        "in any order of events, each step is multiplied whole, no slot is overwritten early and nobody waits for ever",
        arguments: 2...8)
    func protocolHolds(stages: Int) {
        for steps in [1, 2, 3, 4, 5, 7, 9, 12] {
            for own in 0...4 {
                for seed in 0..<30 {
                    let model = ProducerModel(stages: stages, steps: steps, own: own, fault: .none)
                    do throws(ProducerModel.Violation) {
                        try model.run(seed: UInt64(seed * 1000 + steps * 10 + own))
                    } catch {
                        Issue.record("\(stages) slots, \(own) tiles of \(steps) steps, seed \(seed): \(error.text)")
                    }
                }
            }
        }
    }

    @Test("the model finds each way to get it wrong", arguments: ProtocolFault.allCases.filter { $0 != .none })
    private func faultsAreFound(fault: ProtocolFault) {
        let stages = fault == .releasesLate ? 2 : fault == .manyFillers ? 3 : 4
        let model = ProducerModel(stages: stages, steps: 7, own: 3, fault: fault)
        var found: Set<String> = []
        for seed in 0..<200 {
            do throws(ProducerModel.Violation) { try model.run(seed: UInt64(seed)) } catch { found.insert(error.text) }
        }
        print("\(fault): \(found.sorted())")
        #expect(!found.isEmpty)
    }

    @Test("work-groups share all tiles out, each to one of them") func tilesOfGroups() {
        for tiles in 0...40 {
            for groups in 1...12 {
                // As in the kernel.
                let own = (0..<groups).map { $0 < tiles ? (tiles - $0 - 1) / groups + 1 : 0 }
                let lists = own.enumerated().map { group, count in (0..<count).map { group + $0 * groups } }
                #expect(lists.flatMap { $0 }.sorted() == Array(0..<tiles))
            }
        }
    }
}
