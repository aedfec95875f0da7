// Program binaries on disk, so that the second start does not compile.
//
// One file to a program, named by the hash of everything that a binary depends on: platform, device, driver, options and
// source. A file is written under a temporary name and renamed, so that a reader sees all of it or nothing. A file that
// is short, damaged or of another key is passed over and written anew. A folder that cannot be written is no error. What
// `clip-gpu tune` found lies beside the programs in files of the same form.

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// A 128-bit FNV-1a hash of a list of texts, each with its length.
struct ContentKey: Hashable {
    let hash: UInt128
    private let ending: String

    init(_ texts: [String], ending: String = "opencl") {
        self.ending = ending
        var hash: UInt128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d
        func add(_ byte: UInt8) { hash = (hash ^ UInt128(byte)) &* 0x0000_0000_0100_0000_0000_0000_0000_013b }
        for text in texts {
            withUnsafeBytes(of: UInt64(text.utf8.count).littleEndian) { $0.forEach(add) }
            text.utf8.forEach(add)
        }
        self.hash = hash
    }

    var fileName: String {
        let digits = String(hash, radix: 16)
        return String(repeating: "0", count: 32 - digits.count) + digits + "." + ending
    }
}

struct ProgramCache {
    let folder: String

    /// `$CLIP_GPU_CACHE`, else `$XDG_CACHE_HOME/clip-gpu`, else `~/.cache/clip-gpu`; none where none of them is set.
    static var standardFolder: String? {
        if let folder = environment("CLIP_GPU_CACHE") { return folder }
        if let caches = environment("XDG_CACHE_HOME") { return caches + "/clip-gpu" }
        if let home = environment("HOME") { return home + "/.cache/clip-gpu" }
        return nil
    }

    private static let magic: [UInt8] = Array("clip-gpu program 1\n".utf8)
    /// Magic, key, length and checksum of the binary.
    private static let headerLength = magic.count + 16 + 8 + 8

    func path(_ key: ContentKey) -> String { "\(folder)/\(key.fileName)" }

    /// The binary of this key; none where there is none that is whole.
    func read(_ key: ContentKey) -> [UInt8]? {
        guard let file = readFile(path(key)), file.count > Self.headerLength else { return nil }
        let binary = file[Self.headerLength...]
        return file.prefix(Self.headerLength).elementsEqual(Self.header(key, binary)) ? Array(binary) : nil
    }

    /// Whether it was written.
    @discardableResult
    func write(_ key: ContentKey, _ binary: [UInt8]) -> Bool {
        makeFolders()
        let temporary = "\(folder)/.\(key.fileName).\(getpid())"
        guard let file = fopen(temporary, "wb") else { return false }
        var whole = true
        for part in [Self.header(key, binary[...]), binary] {
            whole = part.withUnsafeBytes { fwrite($0.baseAddress, 1, $0.count, file) == $0.count } && whole
        }
        whole = fclose(file) == 0 && whole
        whole = whole && rename(temporary, path(key)) == 0
        if !whole { unlink(temporary) }
        return whole
    }

    private static func header(_ key: ContentKey, _ binary: ArraySlice<UInt8>) -> [UInt8] {
        var checksum: UInt64 = 0xcbf2_9ce4_8422_2325
        binary.withUnsafeBufferPointer { bytes in
            for byte in bytes { checksum = (checksum ^ UInt64(byte)) &* 0x100_0000_01b3 }
        }
        var header = magic
        withUnsafeBytes(of: key.hash.littleEndian) { header += $0 }
        withUnsafeBytes(of: UInt64(binary.count).littleEndian) { header += $0 }
        withUnsafeBytes(of: checksum.littleEndian) { header += $0 }
        return header
    }

    private func makeFolders() {
        var path = ""
        for part in folder.split(separator: "/", omittingEmptySubsequences: false) {
            path += part
            if !path.isEmpty { mkdir(path, 0o755) }
            path += "/"
        }
    }
}

/// A variable of the environment; empty counts as unset.
func environment(_ name: String) -> String? {
    guard let value = getenv(name), value.pointee != 0 else { return nil }
    return String(cString: value)
}

/// A whole file; none where it cannot be read.
func readFile(_ path: String) -> [UInt8]? {
    guard let file = fopen(path, "rb") else { return nil }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var block = [UInt8](repeating: 0, count: 1 << 16)
    while true {
        let count = fread(&block, 1, block.count, file)
        if count == 0 { break }
        bytes += block[..<count]
    }
    return ferror(file) == 0 ? bytes : nil
}
