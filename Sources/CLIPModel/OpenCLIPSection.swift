// An object of open_clip's configuration, whose keys are read one by one.
import Checkpoints

/// An object of the configuration. A key that is not known is refused: it might change what is computed.
struct OpenCLIPSection {
    let values: JSON
    let name: String
    /// Whose defaults count for keys that are left out.
    let library: String

    /// Another library's file, of which only some keys matter.
    init(file values: JSON, _ name: String, library: String) throws(ModelError) {
        guard case .object = values else { throw ModelError("\(name) is not a JSON object") }
        self.values = values
        self.name = name
        self.library = library
    }

    init(_ parent: JSON, _ key: String, in path: String? = nil, known: [String]) throws(ModelError) {
        name = path.map { $0 + "." + key } ?? "\(OpenCLIPFolder.configuration) \(key)"
        let values = parent[key] ?? .object([])
        guard case .object(let members) = values else { throw ModelError("\(name) is not an object") }
        for member in members where !known.contains(member.key) {
            throw ModelError("\(name) has the key \(quoted(member.key)), whose meaning is not known")
        }
        self.values = values
        library = "open_clip"
    }

    /// None where the key is missing or null.
    subscript(key: String) -> JSON? {
        guard let value = values[key], !value.isNull else { return nil }
        return value
    }

    func source(_ key: String) -> String {
        self[key] == nil ? "\(library)'s default for \(name).\(key)" : "\(name).\(key)"
    }

    func flag(_ key: String) throws(ModelError) -> Bool {
        guard let value = self[key] else { return false }
        guard let flag = value.bool else { throw ModelError("\(source(key)) is neither true nor false") }
        return flag
    }

    func string(_ key: String, default: String) throws(ModelError) -> String {
        guard let value = self[key] else { return `default` }
        guard let string = value.string else { throw ModelError("\(source(key)) is not a string") }
        return string
    }

    /// Numbers beyond any model are refused here, so that none of the arithmetic that follows can overflow.
    func integer(_ key: String, default: Int? = nil, least: Int = 1) throws(ModelError) -> Int {
        guard let value = self[key] else {
            guard let `default` else { throw ModelError("\(name) lacks \(key)") }
            return `default`
        }
        guard let integer = value.integer, (least...(1 << 24)).contains(integer) else {
            throw ModelError("\(source(key)) is not a whole number from \(least) to \(1 << 24)")
        }
        return integer
    }

    func number(_ key: String, default: Double) throws(ModelError) -> Double {
        guard let value = self[key] else { return `default` }
        guard let number = value.double else { throw ModelError("\(source(key)) is not a number") }
        return number
    }

    /// A length in pixels, or a pair of equal ones.
    func side(_ key: String, default: Int) throws(ModelError) -> Int {
        guard let value = self[key] else { return `default` }
        let sides = value.array?.map { $0.integer ?? 0 } ?? [value.integer ?? 0]
        guard let first = sides.first, sides.count <= 2, sides.allSatisfy({ $0 == first }),
            (1...(1 << 15)).contains(first)
        else {
            throw ModelError("\(source(key)) is not a length in pixels; only square ones can be done")
        }
        return first
    }

    func channels(_ key: String, default: [Float]) throws(ModelError) -> [Float] {
        guard let value = self[key] else { return `default` }
        // One number counts for all three.
        if let number = value.double.map({ Float($0) }), number.isFinite { return [number, number, number] }
        let numbers = value.array?.compactMap(\.double).map { Float($0) } ?? []
        guard numbers.count == 3, value.array?.count == 3, numbers.allSatisfy(\.isFinite) else {
            throw ModelError("\(source(key)) is not three numbers")
        }
        return numbers
    }
}
