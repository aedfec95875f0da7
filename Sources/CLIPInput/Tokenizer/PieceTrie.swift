// Strings and their ids, found by their bytes: whole, or as prefixes of a text.

/// A trie over bytes. Children of a node lie side by side in the order of their bytes, nodes level by level, so that
/// one array says where each node's children begin.
struct PieceTrie: Sendable {
    /// A place in the trie; the empty string's is `root`.
    typealias Node = Int32
    static let root: Node = 0
    /// No such child, no such id.
    static let none: Int32 = -1

    /// The byte that leads to each node; the root's is not looked at.
    private var bytes: [UInt8] = [0]
    /// Where the children of each node begin; those of node n end where those of node n + 1 begin.
    private var firstChild: [Int32] = []
    /// The id of the string that ends at each node.
    private var ids: [Int32] = [none]
    /// The root's children, by their byte: every search begins there.
    private var rootChildren = [Node](repeating: none, count: 256)
    /// The length of the longest string, in bytes.
    private(set) var longest = 0
    /// How many different strings there are.
    private(set) var count = 0

    init() { firstChild = [1, 1] }

    /// - Parameter strings: with their ids; of equal strings the last counts. The empty string is left out.
    init(_ strings: [(bytes: [UInt8], id: Int32)]) {
        self.init()
        let order = strings.indices.sorted { left, right in
            let (a, b) = (strings[left].bytes, strings[right].bytes)
            return a == b ? left < right : a.lexicographicallyPrecedes(b)
        }
        firstChild = []
        // Nodes wait here in the order of their levels: which of the sorted strings pass through them.
        var level: [(strings: Range<Int>, node: Node)] = [(order.indices, Self.root)]
        var depth = 0
        while !level.isEmpty {
            var next: [(strings: Range<Int>, node: Node)] = []
            for (range, node) in level {
                firstChild.append(Int32(bytes.count))
                var start = range.lowerBound
                while start < range.upperBound, strings[order[start]].bytes.count == depth {
                    if depth > 0 { ids[Int(node)] = strings[order[start]].id }
                    start += 1
                }
                if start > range.lowerBound, depth > 0 {
                    count += 1
                    longest = depth
                }
                while start < range.upperBound {
                    let byte = strings[order[start]].bytes[depth]
                    var end = start + 1
                    while end < range.upperBound, strings[order[end]].bytes[depth] == byte { end += 1 }
                    let child = Node(bytes.count)
                    bytes.append(byte)
                    ids.append(Self.none)
                    if depth == 0 { rootChildren[Int(byte)] = child }
                    next.append((start..<end, child))
                    start = end
                }
            }
            level = next
            depth += 1
        }
        firstChild.append(Int32(bytes.count))
    }

    /// Where `byte` leads from `node`, or `none`.
    @inline(__always)
    func child(of node: Node, _ byte: UInt8) -> Node {
        if node == Self.root { return rootChildren[Int(byte)] }
        var low = Int(firstChild[Int(node)])
        var high = Int(firstChild[Int(node) + 1])
        while high - low > 6 {
            let middle = (low + high) / 2
            if bytes[middle] <= byte { low = middle } else { high = middle }
        }
        while low < high {
            if bytes[low] == byte { return Node(truncatingIfNeeded: low) }
            low += 1
        }
        return Self.none
    }

    /// The id of the string that ends at `node`, or `none`.
    @inline(__always)
    func id(at node: Node) -> Int32 { ids[Int(node)] }

    /// Where a whole string leads, or `none`.
    func node(of string: some Sequence<UInt8>) -> Node {
        var node = Self.root
        for byte in string {
            node = child(of: node, byte)
            if node == Self.none { return node }
        }
        return node
    }

    /// The id of a whole string, if it has one.
    func id(of string: some Sequence<UInt8>) -> Int32? {
        let node = node(of: string)
        return node > Self.root && ids[Int(node)] != Self.none ? ids[Int(node)] : nil
    }

    /// The id of `text[range]`, or `none`.
    func id(of text: Span<UInt8>, _ range: Range<Int>) -> Int32 {
        var node = Self.root
        for position in range {
            node = child(of: node, text[position])
            if node == Self.none { return Self.none }
        }
        return node == Self.root ? Self.none : ids[Int(node)]
    }

    /// The longest string that `text` holds at `position`: where it ends, and its id.
    func longestMatch(in text: Span<UInt8>, at position: Int) -> (end: Int, id: Int32)? {
        var result: (end: Int, id: Int32)?
        var node = Self.root
        var end = position
        while end < text.count {
            node = child(of: node, text[end])
            if node == Self.none { break }
            end += 1
            if ids[Int(node)] != Self.none { result = (end, ids[Int(node)]) }
        }
        return result
    }

    /// Whether any string begins with this byte.
    func begins(with byte: UInt8) -> Bool { rootChildren[Int(byte)] != Self.none }
}
