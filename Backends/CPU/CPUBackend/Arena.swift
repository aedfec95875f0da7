// The memory of activations: one reservation of address space whose pages come as they are first used, shared out first
// fit. Matrices return their region when the last reference to them goes, so a pass in steady state maps nothing.

import CCPU
import CLIPCompute

final class Arena {
    private let base: UnsafeMutableRawPointer
    private let byteCount: Int
    /// Free ranges of bytes, in order, never adjacent.
    private var free: [Range<Int>]

    /// While set, new regions are filled with NaN and stand between guard bands.
    var guards = false
    private var guarded: [Int: Int] = [:]  // offset of a guarded region: its length
    private var damagedAndFreed = 0

    private static let alignment = 64
    /// Vector loads may run past a region's last row by less than this.
    private static let slack = 64
    private static let guardBytes = 256
    private static let guardPattern: UInt32 = 0xFFC5_A5A5  // a NaN that no operation makes

    /// While set, returned regions are not given out again before `reclaim`: what uses them may not have run yet.
    var retainsReturned = false
    private var returned: [Range<Int>] = []

    /// `share`: of how many arenas this is one.
    init(share: Int = 1) throws(BackendError) {
        // As much as the machine has; a system that commits what is reserved gets less.
        let physical = ccpu_physical_memory()
        var reserved = 0
        let wanted = (physical > 0 ? Int(clamping: physical) : 1 << 36) / share
        guard let base = ccpu_pages_reserve(wanted, &reserved) else {
            throw BackendError(
                .outOfMemory, "The CPU backend could not reserve memory for activations; free some and try again.")
        }
        self.base = base
        byteCount = reserved
        free = [0..<reserved]
        free.reserveCapacity(64)
    }

    deinit { ccpu_pages_free(base, byteCount) }

    /// The region's offset and length; its values start at `values(at:)`.
    func allocate(byteCount wanted: Int) throws(BackendError) -> Range<Int> {
        let extra = guards ? 2 * Arena.guardBytes : 0
        let length = (wanted + Arena.slack + extra + Arena.alignment - 1) / Arena.alignment * Arena.alignment
        guard let index = free.firstIndex(where: { $0.count >= length }) else {
            throw BackendError(
                .outOfMemory,
                "The CPU backend has no room for \(wanted) more bytes of activations; use a smaller batch size.")
        }
        let start = free[index].lowerBound
        let region = start..<(start + length)
        if free[index].count == length {
            free.remove(at: index)
        } else {
            free[index] = region.upperBound..<free[index].upperBound
        }
        if guards {
            guarded[start] = length
            words(region).update(repeating: Arena.guardPattern)
            let body = (start + Arena.guardBytes)..<(region.upperBound - Arena.guardBytes)
            words(body).update(repeating: Float.nan.bitPattern)
        }
        return region
    }

    func values(of region: Range<Int>) -> UnsafeMutablePointer<Float> {
        let offset = region.lowerBound + (guarded[region.lowerBound] == nil ? 0 : Arena.guardBytes)
        return (base + offset).assumingMemoryBound(to: Float.self)
    }

    func release(_ region: Range<Int>) {
        if retainsReturned {
            returned.append(region)
            return
        }
        if guarded[region.lowerBound] != nil {
            damagedAndFreed += damagedBands(region)
            guarded[region.lowerBound] = nil
        }
        var low = 0
        var high = free.count
        while low < high {
            let middle = (low + high) / 2
            if free[middle].lowerBound < region.lowerBound { low = middle + 1 } else { high = middle }
        }
        let joinsBefore = low > 0 && free[low - 1].upperBound == region.lowerBound
        let joinsAfter = low < free.count && free[low].lowerBound == region.upperBound
        switch (joinsBefore, joinsAfter) {
        case (true, true):
            free[low - 1] = free[low - 1].lowerBound..<free[low].upperBound
            free.remove(at: low)
        case (true, false): free[low - 1] = free[low - 1].lowerBound..<region.upperBound
        case (false, true): free[low] = region.lowerBound..<free[low].upperBound
        case (false, false): free.insert(region, at: low)
        }
    }

    /// Ends `retainsReturned`.
    func reclaim() {
        retainsReturned = false
        for region in returned { release(region) }
        returned = []
    }

    /// Damaged bands of all regions since `forgetDamage`.
    var damagedGuards: Int {
        guarded.reduce(damagedAndFreed) { $0 + damagedBands($1.key..<($1.key + $1.value)) }
    }

    func forgetDamage() { damagedAndFreed = 0 }

    private func words(_ range: Range<Int>) -> UnsafeMutableBufferPointer<UInt32> {
        UnsafeMutableBufferPointer(
            start: (base + range.lowerBound).assumingMemoryBound(to: UInt32.self), count: range.count / 4)
    }

    private func damagedBands(_ region: Range<Int>) -> Int {
        let bands = [
            region.lowerBound..<(region.lowerBound + Arena.guardBytes),
            (region.upperBound - Arena.guardBytes)..<region.upperBound,
        ]
        return bands.count { words($0).contains { $0 != Arena.guardPattern } }
    }
}

/// Rows of floats in the arena, each row at a multiple of 64 bytes.
package final class CPUMatrix {
    let rows: Int
    let columns: Int
    let pitch: Int
    let values: UnsafeMutablePointer<Float>
    private let arena: Arena
    private let region: Range<Int>

    init(arena: Arena, rows: Int, columns: Int) throws(BackendError) {
        self.arena = arena
        self.rows = rows
        self.columns = columns
        let alignment = Int(CCPU_ALIGNMENT)
        pitch = (columns + alignment - 1) / alignment * alignment
        region = try arena.allocate(byteCount: rows * pitch * 4)
        values = arena.values(of: region)
    }

    deinit { arena.release(region) }

    var view: ccpu_matrix { ccpu_matrix(values: values, rows: rows, columns: columns, pitch: pitch) }

    /// The rows, as they are when they are asked for.
    var contents: Contents { Contents(view: view) }

    /// Rows of a matrix that may have been let go.
    struct Contents {
        let view: ccpu_matrix

        /// Row-major, without what stands between the rows.
        func floats() -> [Float] {
            [Float](unsafeUninitializedCapacity: view.rows * view.columns) { buffer, initialized in
                if let target = buffer.baseAddress {
                    for row in 0..<view.rows {
                        (target + row * view.columns).initialize(
                            from: view.values + row * view.pitch, count: view.columns)
                    }
                }
                initialized = view.rows * view.columns
            }
        }

        /// Overwrites the rows.
        func set(_ rows: [Float]) {
            rows.withUnsafeBufferPointer { source in
                guard let from = source.baseAddress else { return }
                for row in 0..<view.rows {
                    (view.values + row * view.pitch).update(from: from + row * view.columns, count: view.columns)
                }
            }
        }
    }

    func floats() -> [Float] { contents.floats() }
}
