// EXIF orientation: how a camera was held. The reference ignores it; people who want upright pictures can ask for it.

internal import CImageCodecs

/// How stored pixels must be turned to stand upright. The raw values are EXIF's; 1, upright already, is nil.
package enum Orientation: Int, Sendable {
    case flippedLeftRight = 2
    case rotated180 = 3
    case flippedTopBottom = 4
    case transposed = 5
    /// Stored a quarter turn anticlockwise from upright.
    case rotated270 = 6
    case transversed = 7
    case rotated90 = 8

    /// Whether width and height change places.
    var swapsSides: Bool { rawValue >= 5 }

    /// What a JPEG, PNG or WebP file says: its EXIF data, else its XMP data, as Pillow's `ImageOps.exif_transpose`
    /// looks for them. Damaged data count as none.
    package init?(of file: UnsafeRawBufferPointer) {
        let bytes = ByteReader(file[...])
        var exif: Slice<UnsafeRawBufferPointer>?
        var xmp: Slice<UnsafeRawBufferPointer>?
        for (name, data) in bytes.metadata {
            switch name {
            case .exif: exif = exif ?? data
            case .xmp: xmp = xmp ?? data
            }
        }
        let found =
            if let exif {
                ByteReader(exif).exifOrientation
            } else {
                bytes.rawProfile?.withUnsafeBytes { ByteReader($0[...]).exifOrientation }
            }
        let value = found ?? xmp.flatMap { ByteReader($0).xmpOrientation }
        guard let value, let orientation = Orientation(rawValue: value) else { return nil }
        self = orientation
    }
}

extension Picture {
    /// The picture turned upright.
    package func turned(_ orientation: Orientation) -> Picture {
        let (newWidth, newHeight) = orientation.swapsSides ? (height, width) : (width, height)
        let step = mode.bytesPerPixel
        let turned = [UInt8](unsafeUninitializedCapacity: pixels.count) { out, count in
            pixels.withUnsafeBufferPointer { source in
                for y in 0..<newHeight {
                    for x in 0..<newWidth {
                        let (fromX, fromY) =
                            switch orientation {
                            case .flippedLeftRight: (width - 1 - x, y)
                            case .rotated180: (width - 1 - x, height - 1 - y)
                            case .flippedTopBottom: (x, height - 1 - y)
                            case .transposed: (y, x)
                            case .rotated270: (y, height - 1 - x)
                            case .transversed: (width - 1 - y, height - 1 - x)
                            case .rotated90: (width - 1 - y, x)
                            }
                        let from = (fromY * width + fromX) * step
                        let to = (y * newWidth + x) * step
                        for byte in 0..<step { out[to + byte] = source[from + byte] }
                    }
                }
            }
            count = pixels.count
        }
        return Picture(mode: mode, width: newWidth, height: newHeight, pixels: turned, palette: palette)
    }
}

/// Reads numbers and finds metadata in untrusted bytes: everything outside is nil.
private struct ByteReader {
    enum Metadata { case exif, xmp }

    let bytes: Slice<UnsafeRawBufferPointer>

    init(_ bytes: Slice<UnsafeRawBufferPointer>) {
        self.bytes = bytes
    }

    func number(at offset: Int, size: Int, bigEndian: Bool) -> Int? {
        guard offset >= 0, offset <= bytes.count - size else { return nil }
        let start = bytes.startIndex + offset
        let digits = bytes[start..<start + size]
        return bigEndian
            ? digits.reduce(0) { $0 << 8 | Int($1) } : digits.reversed().reduce(0) { $0 << 8 | Int($1) }
    }

    func part(at offset: Int, count: Int) -> Slice<UnsafeRawBufferPointer>? {
        guard offset >= 0, count >= 0, offset <= bytes.count - count else { return nil }
        return bytes[bytes.startIndex + offset..<bytes.startIndex + offset + count]
    }

    func has(_ word: String, at offset: Int) -> Bool {
        part(at: offset, count: word.utf8.count)?.elementsEqual(word.utf8) ?? false
    }

    /// The EXIF and XMP blocks of a file, in order.
    var metadata: [(Metadata, Slice<UnsafeRawBufferPointer>)] {
        if number(at: 0, size: 2, bigEndian: true) == 0xffd8 { return jpegMetadata }
        if has("PNG", at: 1) { return chunks(from: 8, headerFirst: false, kinds: ["eXIf": .exif, "iTXt": .xmp]) }
        if has("RIFF", at: 0) { return chunks(from: 12, headerFirst: true, kinds: ["EXIF": .exif, "XMP ": .xmp]) }
        return []
    }

    /// The EXIF block that ImageMagick and ExifTool wrote into a PNG before it had a chunk for it: a text named "Raw
    /// profile type exif" of three lines (nothing, "exif", the count) and hexadecimal digits, plain or deflated.
    var rawProfile: [UInt8]? {
        guard has("PNG", at: 1) else { return nil }
        let name = "Raw profile type exif\0"
        var last: Slice<UnsafeRawBufferPointer>?
        var isDeflated = false
        for (kind, data) in textChunks where ByteReader(data).has(name, at: 0) {
            var rest = data.dropFirst(name.utf8.count)
            switch kind {
            case "zTXt":
                isDeflated = true
                rest = rest.dropFirst()
            case "iTXt":
                isDeflated = rest.first == 1
                rest = rest.dropFirst(2)
                for _ in 0..<2 {  // the language, and the name in it
                    guard let end = rest.firstIndex(of: 0) else { return nil }
                    rest = rest[(end + 1)...]
                }
            default: isDeflated = false
            }
            last = rest
        }
        guard let last else { return nil }
        let text = isDeflated ? inflate(last) : Array(last)
        let lines = text.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).dropFirst(3)
        let digits = lines.joined().filter { ![0x20, 0x09, 0x0D].contains($0) }.map {
            Character(UnicodeScalar($0)).hexDigitValue
        }
        guard digits.count % 2 == 0, !digits.contains(nil) else { return nil }
        let profile = stride(from: 0, to: digits.count, by: 2).map {
            UInt8((digits[$0] ?? 0) << 4 | (digits[$0 + 1] ?? 0))
        }
        return profile.starts(with: "Exif\0\0".utf8) ? Array(profile.dropFirst(6)) : profile
    }

    private var textChunks: [(kind: String, Slice<UnsafeRawBufferPointer>)] {
        var found: [(String, Slice<UnsafeRawBufferPointer>)] = []
        var at = 8
        while let length = number(at: at, size: 4, bigEndian: true) {
            for kind in ["tEXt", "zTXt", "iTXt"] where has(kind, at: at + 4) {
                if let data = part(at: at + 8, count: length) { found.append((kind, data)) }
            }
            at += 12 + length
        }
        return found
    }

    /// What zlib packed; nothing where it is damaged, or longer than the megabyte that Pillow allows a text.
    private func inflate(_ data: Slice<UnsafeRawBufferPointer>) -> [UInt8] {
        let packed = UnsafeRawBufferPointer(rebasing: data)
        return [UInt8](unsafeUninitializedCapacity: 1 << 20) { out, count in
            count = cic_inflate(
                packed.bindMemory(to: UInt8.self).baseAddress, packed.count, out.baseAddress, out.count)
        }
    }

    /// Segments of a JPEG up to the first scan: marker, length, data.
    private var jpegMetadata: [(Metadata, Slice<UnsafeRawBufferPointer>)] {
        var found: [(Metadata, Slice<UnsafeRawBufferPointer>)] = []
        var at = 2
        while let marker = number(at: at, size: 2, bigEndian: true), marker >> 8 == 0xff, marker != 0xffda {
            if marker == 0xffff {
                at += 1  // padding
                continue
            }
            guard let length = number(at: at + 2, size: 2, bigEndian: true), length >= 2 else { break }
            if marker == 0xffe1, let data = part(at: at + 4, count: length - 2) {
                if has("Exif\0\0", at: at + 4) {
                    found.append((.exif, data.dropFirst(6)))
                } else if has("http://ns.adobe.com/xap/1.0/\0", at: at + 4) {
                    found.append((.xmp, data.dropFirst(29)))
                }
            }
            at += 2 + length
        }
        return found
    }

    /// Chunks of a PNG (length, name, data, checksum) or of a WebP (name, length, data, padding to even).
    private func chunks(
        from start: Int, headerFirst: Bool, kinds: [String: Metadata]
    ) -> [(Metadata, Slice<UnsafeRawBufferPointer>)] {
        var found: [(Metadata, Slice<UnsafeRawBufferPointer>)] = []
        var at = start
        while let length = number(at: headerFirst ? at + 4 : at, size: 4, bigEndian: !headerFirst) {
            for (name, kind) in kinds where has(name, at: headerFirst ? at : at + 4) {
                guard let data = part(at: at + 8, count: length) else { continue }
                found.append((kind, ByteReader(data).has("Exif\0\0", at: 0) ? data.dropFirst(6) : data))
            }
            at += headerFirst ? 8 + length + length % 2 : 12 + length
        }
        return found
    }

    /// Tag 0x0112 of the first directory of a TIFF block.
    var exifOrientation: Int? {
        let bigEndian = has("MM", at: 0)
        guard bigEndian || has("II", at: 0), number(at: 2, size: 2, bigEndian: bigEndian) == 42,
            let directory = number(at: 4, size: 4, bigEndian: bigEndian),
            let count = number(at: directory, size: 2, bigEndian: bigEndian)
        else { return nil }
        for entry in 0..<count {
            let at = directory + 2 + 12 * entry
            guard let tag = number(at: at, size: 2, bigEndian: bigEndian) else { return nil }
            if tag == 0x0112 {
                let sizes = [1: 1, 3: 2, 4: 4]  // a byte, short or long
                guard let size = number(at: at + 2, size: 2, bigEndian: bigEndian).flatMap({ sizes[$0] }) else {
                    continue
                }
                return number(at: at + 8, size: size, bigEndian: bigEndian)
            }
        }
        return nil
    }

    /// `tiff:Orientation="6"` or `<tiff:Orientation>6<`.
    var xmpOrientation: Int? {
        let name = Array("tiff:Orientation".utf8)
        for at in 0..<max(0, bytes.count - name.count) where has("tiff:Orientation", at: at) {
            let rest = bytes.dropFirst(at + name.count).prefix(3)
            let text = String(decoding: rest, as: UTF8.self)
            let digit = text.hasPrefix("=\"") ? text.dropFirst(2).prefix(1) : text.dropFirst(1).prefix(1)
            if text.hasPrefix("=\"") || text.hasPrefix(">"), let value = Int(digit) { return value }
        }
        return nil
    }
}
