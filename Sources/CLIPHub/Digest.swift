// What a file must contain, by the number that its publisher gives.
import CHub

/// A number that stands for a file's bytes.
enum Digest: Hashable {
    /// SHA-256 in hexadecimal: OpenAI's files, and large files of the hub.
    case sha256(String)
    /// git's name of a blob, in hexadecimal: small files of the hub.
    case gitBlob(String)

    /// From an entity tag of the hub; none where it has neither form, and says nothing of the bytes.
    init?(entityTag: String) {
        guard entityTag.utf8.allSatisfy({ Digest.isHexadecimal($0) }) else { return nil }
        switch entityTag.utf8.count {
        case 64: self = .sha256(entityTag)
        case 40: self = .gitBlob(entityTag)
        default: return nil
        }
    }

    var text: String {
        switch self {
        case .sha256(let text), .gitBlob(let text): text
        }
    }

    static func isHexadecimal(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
    }
}

/// SHA-256 of bytes as they pass.
package struct Hasher256 {
    private var state = CHubSHA256()

    /// - Parameter plain: does without the processor's instructions for it.
    package init(plain: Bool = false) { chub_sha256_begin(&state, plain) }

    package mutating func update(_ bytes: UnsafeRawBufferPointer) {
        chub_sha256_update(&state, bytes.baseAddress, bytes.count)
    }

    /// In hexadecimal.
    package func end() -> String {
        var state = state
        return hexadecimal(32) { chub_sha256_end(&state, $0) }
    }
}

/// git's name for a blob: SHA-1 of "blob SIZE\0" and the bytes.
package struct HasherGit {
    private var state = CHubSHA1()

    /// - Parameter size: bytes that will come; git puts their number first.
    package init(size: Int) {
        chub_sha1_begin(&state)
        Array("blob \(size)\0".utf8).withUnsafeBytes { update($0) }
    }

    package mutating func update(_ bytes: UnsafeRawBufferPointer) {
        chub_sha1_update(&state, bytes.baseAddress, bytes.count)
    }

    /// In hexadecimal.
    package func end() -> String {
        var state = state
        return hexadecimal(20) { chub_sha1_end(&state, $0) }
    }
}

private func hexadecimal(_ count: Int, _ fill: (UnsafeMutablePointer<UInt8>) -> Void) -> String {
    let digits = Array("0123456789abcdef".utf8)
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
        if let base = buffer.baseAddress { fill(base) }
        filled = count
    }
    return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
}
