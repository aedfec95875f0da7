// The conformance suite: every operation of a backend against the reference, in awkward shapes, between guard bands,
// and the same bytes whatever stands beside a row. A library, so that tests and the command's self-test share it.

import CLIPCompute

/// One case of the suite. Its name says everything that makes it, and seeds its numbers: the name reproduces it.
package struct ConformanceCase: Sendable, CustomStringConvertible {
    package enum Size: Int, Sendable, Comparable {
        /// Every operation in a few thousand products: for simulators that watch each access (oclgrind).
        case tiny
        /// Every operation and its variants; all together a second or two on a CPU.
        case small
        /// Seconds, on a CPU.
        case large

        package static func < (a: Size, b: Size) -> Bool { a.rawValue < b.rawValue }
    }

    package let name: String
    /// The operation it is about: the first word of its name.
    package var operation: String { String(name.prefix { $0 != " " }) }
    package let size: Size
    private let check: any ConformanceCheck

    init(_ check: any ConformanceCheck, _ size: Size) {
        self.check = check
        name = check.name
        self.size = size
    }

    package var description: String { name }

    /// Runs the case on `backend`, which is left between passes, whatever happens.
    package func run<B: Backend>(on backend: B) -> ConformanceResult {
        let before = backend.guardsMemory
        backend.guardsMemory = true
        defer { backend.guardsMemory = before }
        do {
            return try check.run(on: backend).named(name)
        } catch {
            return ConformanceResult(name: name, share: .infinity, failures: ["threw: \(error)"])
        }
    }
}

/// What became of a case.
package struct ConformanceResult: Sendable, CustomStringConvertible {
    package var name: String
    /// The error as a share of what the operation is allowed (`Tolerance`): above 1 is a failure.
    package var share: Double
    /// One sentence for each thing that is wrong.
    package var failures: [String]

    package var passed: Bool { failures.isEmpty }

    package var description: String {
        let percent = share < 1e6 ? "\(Int((share * 100).rounded(.up))) % of tolerance" : "no measure"
        return passed ? "\(name): \(percent)" : "\(name): FAILED (\(percent)): " + failures.joined(separator: "; ")
    }

    fileprivate func named(_ name: String) -> ConformanceResult {
        ConformanceResult(name: name, share: share, failures: failures)
    }
}

package enum Conformance {
    package static var tiny: [ConformanceCase] { full.filter { $0.size == .tiny } }
    package static var quick: [ConformanceCase] { full.filter { $0.size <= .small } }
    package static let full: [ConformanceCase] = makeCases()
    /// What a vision and a text transformer run, in a CLIP's own head width: a check at every start, for which a device
    /// builds no kernel that the model does not need.
    package static let start: [ConformanceCase] = [
        ConformanceCase(LinearCase(rows: 50, inputs: 128, outputs: 192, norm: .layer, activation: .quickGELU), .small),
        ConformanceCase(LinearCase(rows: 50, inputs: 192, outputs: 128, residual: true), .small),
        ConformanceCase(
            AttentionCase(lengths: [50, 50], inputs: 128, heads: 2, keyWidth: 64, valueWidth: 64, norm: .layer), .small),
        ConformanceCase(
            AttentionCase(lengths: [7, 77], inputs: 128, heads: 2, keyWidth: 64, valueWidth: 64, mask: .causal), .small),
        ConformanceCase(
            PooledAttentionCase(
                query: .row, lengths: [50, 50], inputs: 128, heads: 2, keyWidth: 64, valueWidth: 64, outputs: 128,
                norm: .layer), .small),
        ConformanceCase(TokensCase(lengths: [3, 1], vocabulary: 9, columns: 128), .small),
    ]

    /// Runs the cases one after the other on one backend.
    package static func run<B: Backend>(_ cases: [ConformanceCase], on backend: B) -> [ConformanceResult] {
        cases.map { $0.run(on: backend) }
    }
}

/// What a case does: an operation against the reference, or a scenario of its own.
protocol ConformanceCheck: Sendable {
    var name: String { get }
    func run<B: Backend>(on backend: B) throws -> ConformanceResult
}

/// Which of an operation's independent items (rows, sequences, pictures) are run.
struct Selection {
    var items: Range<Int>
    /// The first item holds nothing but NaN: the others must not notice.
    var isPoisoned = false
}

/// An operation on items that must not know of each other.
protocol ConformanceOperation: ConformanceCheck {
    var itemCount: Int { get }
    /// Columns of the result.
    var columns: Int { get }
    /// Rows of the whole result that belong to these items.
    func rows(of items: Range<Int>) -> Range<Int>
    /// Prepares the weights; the closure enqueues the operation on a selection, within a pass.
    func prepare<B: Backend>(on backend: B) throws -> (Selection) throws -> B.Matrix
    /// What each element of the result may err by.
    func allowed(_ expected: [Float], _ precision: Precision) -> [Float]
    /// Whether an item of NaN can be made.
    var canPoison: Bool { get }
}

extension ConformanceOperation {
    func rows(of items: Range<Int>) -> Range<Int> { items }
    var canPoison: Bool { true }

    func run<B: Backend>(on backend: B) throws -> ConformanceResult {
        let all = Selection(items: 0..<itemCount)
        let reference = ReferenceBackend()
        let enqueueReference = try prepare(on: reference)
        reference.begin(alone: true)
        let expected = try reference.wait(reference.submit(enqueueReference(all)))

        let enqueue = try prepare(on: backend)
        func pass(_ selection: Selection) throws -> (values: [Float], damaged: Int) {
            try backend.begin()
            let result = try enqueue(selection)
            let damaged = try backend.damagedGuards()
            return (try backend.wait(backend.submit(result)), damaged)
        }
        let (whole, damaged) = try pass(all)
        var result = compare(whole, expected, columns: columns, allowed: allowed(expected, backend.precision))
        if damaged > 0 { result.failures.append("\(damaged) guard bands damaged") }
        if whole.count != expected.count { return result }

        // Again, in each lane, then in batches of other sizes with other neighbours: the same bytes.
        var selections = (0..<backend.laneCount).map { _ in all }
        let n = itemCount
        for range in [0..<1, (n - 1)..<n, 1..<3, (n / 2)..<(n / 2 + 3), (n - 5)..<n] where 0 <= range.lowerBound {
            if range.upperBound <= n && range.count < n { selections.append(Selection(items: range)) }
        }
        if canPoison && n > 1 { selections.append(Selection(items: 0..<n, isPoisoned: true)) }
        for selection in selections {
            let (part, damaged) = try pass(selection)
            let clean = selection.isPoisoned ? selection.items.dropFirst() : selection.items[...]
            let selected = rows(of: selection.items)
            let wanted = rows(of: clean.startIndex..<clean.endIndex)
            let offset = wanted.lowerBound - selected.lowerBound
            let what =
                selection.isPoisoned
                ? "beside an item of NaN"
                : selection.items == all.items ? "in another pass" : "when run as items \(selection.items)"
            if damaged > 0 { result.failures.append("\(damaged) guard bands damaged \(what)") }
            guard part.count == selected.count * columns else {
                result.failures.append("\(part.count) values instead of \(selected.count * columns) \(what)")
                continue
            }
            let differing = wanted.first { row in
                (0..<columns).contains { column in
                    part[(row - wanted.lowerBound + offset) * columns + column].bitPattern
                        != whole[row * columns + column].bitPattern
                }
            }
            if let differing { result.failures.append("row \(differing) has other bytes \(what)") }
        }
        return result
    }
}

/// The error of `values` as a share of what is allowed: the greatest element's, and three times the root mean square
/// (the bounds are those of the worst among many elements, six deviations; see `Tolerance`).
func compare(_ values: [Float], _ expected: [Float], columns: Int, allowed: [Float]) -> ConformanceResult {
    guard values.count == expected.count else {
        return ConformanceResult(
            name: "", share: .infinity, failures: ["\(values.count) values instead of \(expected.count)"])
    }
    if let i = values.indices.first(where: { !values[$0].isFinite && expected[$0].isFinite }) {
        return ConformanceResult(
            name: "", share: .infinity,
            failures: ["\(values[i]) at row \(i / columns), column \(i % columns), expected \(expected[i])"])
    }
    var worst = (share: 0.0, index: 0)
    var squares = 0.0
    for i in values.indices {
        let error = abs(Double(values[i]) - Double(expected[i]))
        let share = error == 0 ? 0 : error / Double(allowed[i])
        squares += share * share
        if !(share <= worst.share) { worst = (share, i) }
    }
    let meanSquare = values.isEmpty ? 0 : 3 * (squares / Double(values.count)).squareRoot()
    var result = ConformanceResult(name: "", share: max(worst.share, meanSquare), failures: [])
    if !(worst.share <= 1) {
        let (row, column) = worst.index.quotientAndRemainder(dividingBy: columns)
        result.failures.append(
            "row \(row), column \(column) is \(values[worst.index]), expected \(expected[worst.index])"
                + " ± \(allowed[worst.index])")
    } else if !(meanSquare <= 1) {
        result.failures.append("no element is far off, but their root mean square is beyond a third of the tolerance")
    }
    return result
}
