// Unicode's canonical composition, in the version of Unicode of the reference's Python.

import CTextTables

enum Normalization {
    // Hangul syllables are composed and decomposed by arithmetic (Unicode Standard, section 3.12).
    private static let syllables: UInt32 = 0xAC00
    private static let leads: UInt32 = 0x1100
    private static let vowels: UInt32 = 0x1161
    private static let tails: UInt32 = 0x11A7
    private static let leadCount: UInt32 = 19
    private static let vowelCount: UInt32 = 21
    private static let tailCount: UInt32 = 28
    private static let syllableCount = leadCount * vowelCount * tailCount

    /// Normalization form C: `unicodedata.normalize("NFC", text)`.
    static func nfc(_ text: [UInt32]) -> [UInt32] {
        guard text.contains(where: { CharacterTraits($0).contains(.normalises) }) else { return text }
        return composed(decomposed(text, as: .python), as: .python)
    }

    /// NFC, NFD, NFKC or NFKD as the `tokenizers` library computes it.
    static func normalized(_ text: [UInt32], composes: Bool, isCompatible: Bool) -> [UInt32] {
        let library = Library.tokenizers(isCompatible: isCompatible)
        let units = decomposed(text, as: library)
        return composes ? composed(units, as: library) : units.map(\.scalar)
    }

    /// Whose version of Unicode counts, and which decompositions.
    private enum Library {
        /// Python's `unicodedata`, canonical.
        case python
        /// The crate in the `tokenizers` library, whose data are older: marks that it does not know do not combine.
        case tokenizers(isCompatible: Bool)

        func combiningClass(_ scalar: UInt32) -> UInt8 {
            if case .tokenizers = self, !LibraryTraits(scalar).contains(.combines) { return 0 }
            return textCombiningClass(scalar)
        }

        func decompose(_ scalar: UInt32, _ append: (UInt32) -> Void) {
            if case .tokenizers(let isCompatible) = self {
                guard LibraryTraits(scalar).contains(.decomposes) else { return append(scalar) }
                if isCompatible {
                    var count = 0
                    if let parts = textCompatibilityDecomposition(scalar, &count) {
                        return UnsafeBufferPointer(start: parts, count: count).forEach(append)
                    }
                }
            }
            let parts = textDecomposition(scalar)
            if parts.count == 0 { append(scalar) } else { parts.scalars.forEach(append) }
        }

        func composition(_ first: UInt32, _ second: UInt32) -> UInt32 {
            let composite = textComposition(first, second)
            if case .tokenizers = self, !LibraryTraits(composite).contains(.decomposes) { return 0 }
            return composite
        }
    }

    private typealias Unit = (scalar: UInt32, combiningClass: UInt8)

    /// Full canonical decomposition, each scalar with its combining class, combining marks in canonical order.
    private static func decomposed(_ text: [UInt32], as library: Library) -> [Unit] {
        var result = [Unit]()
        result.reserveCapacity(text.count * 2)
        var runStart = 0  // where the combining marks at the end of `result` begin
        var isRunSorted = true
        func append(_ scalar: UInt32) {
            let combiningClass = library.combiningClass(scalar)
            if combiningClass == 0 {
                if !isRunSorted { sortByClass(&result[runStart...]) }
                runStart = result.count + 1
                isRunSorted = true
            } else if runStart < result.count, result[result.count - 1].combiningClass > combiningClass {
                isRunSorted = false
            }
            result.append((scalar, combiningClass))
        }
        for scalar in text {
            if scalar < 0xA0 {
                append(scalar)
            } else if scalar >= syllables, scalar < syllables + syllableCount {
                let index = scalar - syllables
                append(leads + index / (vowelCount * tailCount))
                append(vowels + index / tailCount % vowelCount)
                if index % tailCount > 0 { append(tails + index % tailCount) }
            } else {
                library.decompose(scalar, append)
            }
        }
        if !isRunSorted { sortByClass(&result[runStart...]) }
        return result
    }

    /// Sorts marks by class; those of one class keep their order.
    private static func sortByClass(_ marks: inout ArraySlice<Unit>) {
        let sorted = marks.enumerated().sorted {
            ($0.element.combiningClass, $0.offset) < ($1.element.combiningClass, $1.offset)
        }
        marks = ArraySlice(sorted.map(\.element))
    }

    private static func composed(_ text: [Unit], as library: Library) -> [UInt32] {
        var result = [UInt32]()
        result.reserveCapacity(text.count)
        var starter: Int?  // where in `result` the last starter stands
        var lastClass: UInt8 = 0  // of what `result` holds after that starter; 0 if nothing
        for (scalar, combiningClass) in text {
            if let index = starter {
                let isAdjacent = index == result.count - 1
                if isAdjacent || (lastClass < combiningClass && lastClass > 0),
                    let composite = composition(result[index], scalar, as: library)
                {
                    result[index] = composite
                    continue
                }
            }
            result.append(scalar)
            lastClass = combiningClass
            if combiningClass == 0 { starter = result.count - 1 }
        }
        return result
    }

    private static func composition(_ first: UInt32, _ second: UInt32, as library: Library) -> UInt32? {
        if first >= leads, first < leads + leadCount, second >= vowels, second < vowels + vowelCount {
            return syllables + ((first - leads) * vowelCount + second - vowels) * tailCount
        }
        let isOpenSyllable =
            first >= syllables && first < syllables + syllableCount && (first - syllables) % tailCount == 0
        if isOpenSyllable, second > tails, second < tails + tailCount { return first + second - tails }
        let composite = library.composition(first, second)
        return composite > 0 ? composite : nil
    }
}
