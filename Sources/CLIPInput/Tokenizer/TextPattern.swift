// What a text is searched for, where a tokenizer's file says so: a string, or a regular expression of the kind that
// tokenizers are published with.

import Checkpoints

/// A string or a regular expression.
enum TextPattern: Sendable {
    case literal([UInt8])
    case expression(Expression)

    /// Hands over the parts of `text[range]` in their order, matches and what stands between them; none is empty.
    @inline(__always)
    func forEachPart(of text: Span<UInt8>, _ range: Range<Int>, _ body: (Range<Int>, _ isMatch: Bool) -> Void) {
        var open = range.lowerBound
        var position = range.lowerBound
        while position < range.upperBound {
            guard let end = matchEnd(text, at: position, range), end > position else {
                position += UTF8Text.length(of: text[position])
                continue
            }
            if open < position { body(open..<position, false) }
            body(position..<end, true)
            position = end
            open = end
        }
        if open < range.upperBound { body(open..<range.upperBound, false) }
    }

    private func matchEnd(_ text: Span<UInt8>, at position: Int, _ range: Range<Int>) -> Int? {
        switch self {
        case .literal(let string):
            guard !string.isEmpty, string.count <= range.upperBound - position else { return nil }
            for (offset, byte) in string.enumerated() where text[position + offset] != byte { return nil }
            return position + string.count
        case .expression(let expression):
            return expression.matchEnd(text, at: position, range.upperBound)
        }
    }
}

/// A regular expression out of characters, classes, `\s`, `\p{L}` and `\p{N}`, alternatives, groups (also without regard
/// to case), looks ahead, and repetitions of single characters or classes, as many as possible first.
///
/// Oniguruma, which the `tokenizers` library calls, knows much more; whatever is not among these is refused. Repetitions
/// of groups are left out so that a search cannot take exponential time.
struct Expression: Sendable {
    private let root: Node
    /// The ASCII bytes that a match may begin with.
    private let isFirst: [Bool]

    private indirect enum Node: Sendable {
        case one(CharacterSet)
        case many(CharacterSet, least: Int, most: Int, givesBack: Bool)
        case sequence([Node])
        case choice([Node])
        case optional(Node)
        case ahead(Node, isNegative: Bool)
    }

    /// - Parameter name: of the file, for errors.
    init(_ source: String, name: String) throws(CheckpointError) {
        var parser = Parser(scalars: source.unicodeScalars.map(\.value), source: source, name: name)
        root = try parser.whole()
        guard Self.leastLength(root) > 0 else {
            throw CheckpointError("\(name) has the expression \(quoted(source)), which matches nothing at all places")
        }
        let root = root
        isFirst = (0..<128).map { Self.canBegin(root, UInt32($0)) }
    }

    func matchEnd(_ text: Span<UInt8>, at position: Int, _ end: Int) -> Int? {
        if text[position] < 0x80, !isFirst[Int(text[position])] { return nil }
        // What an expression of many alternatives in a row could ask for has no bound but this one.
        var steps = 100_000 + 16 * (end - position)
        return Self.match(root, text, position, end, &steps) { position, _ in position }
    }

    /// What is left to match after a node, from a position on.
    private typealias Rest = (_ position: Int, _ steps: inout Int) -> Int?

    /// Continues with `rest` after `node`, and tries `node` another way where that fails.
    private static func match(
        _ node: Node, _ text: Span<UInt8>, _ position: Int, _ end: Int, _ steps: inout Int, _ rest: Rest
    ) -> Int? {
        steps -= 1
        if steps < 0 { return nil }
        switch node {
        case .one(let set):
            guard let next = set.end(text, position, end) else { return nil }
            return rest(next, &steps)
        case .many(let set, let least, let most, let givesBack):
            var count = 0
            var position = position
            while count < most, let next = set.end(text, position, end) {
                position = next
                count += 1
            }
            while count >= least {
                steps -= 1
                if let result = rest(position, &steps) { return result }
                guard givesBack, count > least, steps > 0 else { break }
                count -= 1
                position -= 1
                while text[position] & 0xC0 == 0x80 { position -= 1 }
            }
            return nil
        case .sequence(let nodes): return match(nodes[...], text, position, end, &steps, rest)
        case .choice(let nodes):
            for node in nodes {
                if let result = match(node, text, position, end, &steps, rest) { return result }
            }
            return nil
        case .optional(let node):
            return match(node, text, position, end, &steps, rest) ?? rest(position, &steps)
        case .ahead(let node, let isNegative):
            let isThere = match(node, text, position, end, &steps) { position, _ in position } != nil
            return isThere != isNegative ? rest(position, &steps) : nil
        }
    }

    private static func match(
        _ nodes: ArraySlice<Node>, _ text: Span<UInt8>, _ position: Int, _ end: Int, _ steps: inout Int, _ rest: Rest
    ) -> Int? {
        guard let first = nodes.first else { return rest(position, &steps) }
        // The last node needs nothing to come back to.
        if nodes.count == 1 { return match(first, text, position, end, &steps, rest) }
        return match(first, text, position, end, &steps) { position, steps in
            match(nodes.dropFirst(), text, position, end, &steps, rest)
        }
    }

    private static func leastLength(_ node: Node) -> Int {
        switch node {
        case .one: 1
        case .many(_, let least, _, _): least
        case .sequence(let nodes): nodes.reduce(0) { $0 + leastLength($1) }
        case .choice(let nodes): nodes.map(leastLength).min() ?? 0
        case .optional, .ahead: 0
        }
    }

    private static func canBegin(_ node: Node, _ scalar: UInt32) -> Bool {
        switch node {
        case .one(let set), .many(let set, _, _, _): set.contains(scalar)
        case .sequence(let nodes):
            nodes.indices.contains { index in
                canBegin(nodes[index], scalar) && nodes[..<index].allSatisfy { leastLength($0) == 0 }
            }
        case .choice(let nodes): nodes.contains { canBegin($0, scalar) }
        case .optional(let node): canBegin(node, scalar)
        case .ahead: false
        }
    }

    // MARK: Character classes

    struct CharacterSet: Sendable {
        private var ranges: [ClosedRange<UInt32>] = []
        private var traits: LibraryTraits = []
        private var absentTraits: [LibraryTraits] = []
        private var isNegated = false
        /// The answer for ASCII.
        private var low: (UInt64, UInt64) = (0, 0)

        fileprivate enum Item {
            case scalar(UInt32)
            case trait(LibraryTraits, isAbsent: Bool)
            case any
        }

        fileprivate mutating func insert(_ item: Item, ignoresCase: Bool) {
            switch item {
            case .scalar(let scalar): insert(scalar...scalar, ignoresCase: ignoresCase)
            case .trait(let trait, false): traits.formUnion(trait)
            case .trait(let trait, true): absentTraits.append(trait)
            case .any: ranges += [0...0x9, 0xB...0x10FFFF]
            }
        }

        fileprivate mutating func insert(_ range: ClosedRange<UInt32>, ignoresCase: Bool) {
            ranges.append(range)
            guard ignoresCase else { return }
            for letter in UInt32(UInt8(ascii: "a"))...UInt32(UInt8(ascii: "z")) {
                guard range.contains(letter) || range.contains(letter - 0x20) else { continue }
                ranges += [letter...letter, letter - 0x20...letter - 0x20]
                if letter == UInt32(UInt8(ascii: "s")) { ranges.append(0x17F...0x17F) }  // ſ
                if letter == UInt32(UInt8(ascii: "k")) { ranges.append(0x212A...0x212A) }  // the Kelvin sign
            }
        }

        fileprivate func completed(isNegated: Bool) -> CharacterSet {
            var result = self
            result.isNegated = isNegated
            for scalar in UInt32(0)..<64 {
                if result.compute(scalar) { result.low.0 |= 1 << UInt64(scalar) }
                if result.compute(scalar + 64) { result.low.1 |= 1 << UInt64(scalar) }
            }
            return result
        }

        private func compute(_ scalar: UInt32) -> Bool {
            let facts = LibraryTraits(scalar)
            let isIn =
                !traits.isDisjoint(with: facts) || absentTraits.contains { facts.isDisjoint(with: $0) }
                || ranges.contains { $0.contains(scalar) }
            return isIn != isNegated
        }

        @inline(__always)
        func contains(_ scalar: UInt32) -> Bool {
            if scalar < 64 { return low.0 >> UInt64(scalar) & 1 == 1 }
            if scalar < 128 { return low.1 >> UInt64(scalar - 64) & 1 == 1 }
            return compute(scalar)
        }

        /// Where the character at `position` ends, if it is one of these.
        @inline(__always)
        fileprivate func end(_ text: Span<UInt8>, _ position: Int, _ end: Int) -> Int? {
            guard position < end else { return nil }
            let byte = text[position]
            if byte < 0x80 { return contains(UInt32(byte)) ? position + 1 : nil }
            let (scalar, length) = UTF8Text.scalar(text, at: position)
            return contains(scalar) ? position + length : nil
        }
    }

    // MARK: Reading

    private struct Parser {
        let scalars: [UInt32]
        let source: String
        let name: String
        var position = 0
        var depth = 0
        var ignoresCase = false

        init(scalars: [UInt32], source: String, name: String) {
            self.scalars = scalars
            self.source = source
            self.name = name
        }

        private var current: UInt32? { position < scalars.count ? scalars[position] : nil }

        private func unknown(_ what: String) -> CheckpointError {
            CheckpointError(
                "\(name) splits texts by the expression \(quoted(source)): \(what) at character \(position) cannot be "
                    + "read")
        }

        private func isNext(_ text: String) -> Bool {
            scalars[position...].starts(with: text.unicodeScalars.map(\.value))
        }

        private mutating func skip(_ text: String) -> Bool {
            guard isNext(text) else { return false }
            position += text.unicodeScalars.count
            return true
        }

        mutating func whole() throws(CheckpointError) -> Node {
            guard scalars.count <= 512 else { throw unknown("more than 512 characters") }
            let node = try choice()
            guard position == scalars.count else { throw unknown("what stands") }
            return node
        }

        private mutating func choice() throws(CheckpointError) -> Node {
            depth += 1
            guard depth <= 32 else { throw unknown("a group more than 32 levels deep") }
            defer { depth -= 1 }
            var choices = [try sequence()]
            while skip("|") { choices.append(try sequence()) }
            return choices.count == 1 ? choices[0] : .choice(choices)
        }

        private mutating func sequence() throws(CheckpointError) -> Node {
            var nodes: [Node] = []
            while let next = current, next != UInt32(UInt8(ascii: "|")), next != UInt32(UInt8(ascii: ")")) {
                nodes.append(try repeated(try atom()))
            }
            return nodes.count == 1 ? nodes[0] : .sequence(nodes)
        }

        private mutating func repeated(_ node: Node) throws(CheckpointError) -> Node {
            var bounds: (least: Int, most: Int)?
            if skip("?") {
                bounds = (0, 1)
            } else if skip("*") {
                bounds = (0, .max)
            } else if skip("+") {
                bounds = (1, .max)
            } else if isNext("{"), let close = scalars[position...].firstIndex(of: UInt32(UInt8(ascii: "}"))) {
                let inside = scalars[(position + 1)..<close].compactMap { UnicodeScalar($0).map(Character.init) }
                let parts = String(inside).split(separator: ",", omittingEmptySubsequences: false)
                let least = parts.first.flatMap { Int($0) }
                let most = parts.count == 1 ? least : parts[1].isEmpty ? Int.max : Int(parts[1])
                guard let least, let most, parts.count <= 2, least <= most, least >= 0 else { throw unknown("{") }
                bounds = (least, most)
                position = close + 1
            }
            guard let bounds else { return node }
            guard !isNext("?") else { throw unknown("a repetition as short as possible") }
            let givesBack = !skip("+")
            guard !isNext("*"), !isNext("+"), !isNext("{") else { throw unknown("a repetition of a repetition") }
            switch node {
            case .one(let set):
                return .many(set, least: bounds.least, most: bounds.most, givesBack: givesBack)
            default:
                guard bounds == (0, 1), givesBack else { throw unknown("a repeated group") }
                return .optional(node)
            }
        }

        private mutating func atom() throws(CheckpointError) -> Node {
            if skip("(") { return try group() }
            if skip("[") { return .one(try characterClass()) }
            var set = CharacterSet()
            if let next = current, "^$*+?{".unicodeScalars.contains(where: { $0.value == next }) {
                throw unknown("a sign of its own meaning")
            }
            set.insert(skip(".") ? .any : try item(), ignoresCase: ignoresCase)
            return .one(set.completed(isNegated: false))
        }

        private mutating func group() throws(CheckpointError) -> Node {
            let outerCase = ignoresCase
            var ahead: Bool?
            if skip("?i:") {
                ignoresCase = true
            } else if skip("?!") {
                ahead = true
            } else if skip("?=") {
                ahead = false
            } else if !skip("?:"), isNext("?") {
                throw unknown("a group of this kind")
            }
            let node = try choice()
            guard skip(")") else { throw unknown("the end of a group that is missing") }
            ignoresCase = outerCase
            if let ahead { return .ahead(node, isNegative: ahead) }
            return node
        }

        private mutating func characterClass() throws(CheckpointError) -> CharacterSet {
            let isNegated = skip("^")
            var set = CharacterSet()
            var isEmpty = true
            while let next = current, next != UInt32(UInt8(ascii: "]")) || isEmpty {
                guard next != UInt32(UInt8(ascii: "[")), !isNext("&&") else { throw unknown("a class in a class") }
                let first = try item()
                isEmpty = false
                if case .scalar(let low) = first, isNext("-"), position + 1 < scalars.count,
                    scalars[position + 1] != UInt32(UInt8(ascii: "]"))
                {
                    position += 1
                    guard case .scalar(let high) = try item(), low <= high else { throw unknown("a range") }
                    set.insert(low...high, ignoresCase: ignoresCase)
                } else {
                    set.insert(first, ignoresCase: ignoresCase)
                }
            }
            guard skip("]") else { throw unknown("the end of a class that is missing") }
            return set.completed(isNegated: isNegated)
        }

        /// One character, or a class by its escape.
        private mutating func item() throws(CheckpointError) -> CharacterSet.Item {
            guard let scalar = current else { throw unknown("an unfinished end") }
            position += 1
            guard scalar == UInt32(UInt8(ascii: "\\")) else {
                // Without regard to case, letters beyond ASCII have relatives that no table here knows.
                if ignoresCase, scalar > 0x7F { throw unknown("a letter beyond ASCII") }
                return .scalar(scalar)
            }
            if skip("s") { return .trait(.isRegexSpace, isAbsent: false) }
            if skip("S") { return .trait(.isRegexSpace, isAbsent: true) }
            if skip("p{L}") { return .trait(.isRegexLetter, isAbsent: false) }
            if skip("P{L}") { return .trait(.isRegexLetter, isAbsent: true) }
            if skip("p{N}") { return .trait(.isRegexNumber, isAbsent: false) }
            if skip("P{N}") { return .trait(.isRegexNumber, isAbsent: true) }
            if skip("r") { return .scalar(0x0D) }
            if skip("n") { return .scalar(0x0A) }
            if skip("t") { return .scalar(0x09) }
            guard let escaped = current, escaped < 0x80, !CharacterClass(ascii: UInt8(escaped)).isAlphanumeric else {
                throw unknown("an escape")
            }
            position += 1
            return .scalar(escaped)
        }
    }
}

extension CharacterClass {
    fileprivate var isAlphanumeric: Bool { self == .letter || self == .number }
}
