// Pictures against the reference's pixels, byte for byte; the fixtures are made by tools/make_image_fixtures.py.
import CLIPInput
import Foundation
import Testing

/// One line of pictures.json: a file, what is asked of it, and the reference's pixels or refusal.
struct PictureCase: Decodable, CustomTestStringConvertible, Sendable {
    var file: String
    var size: Int
    var exif: Bool?
    var resizeMode: String?
    var interpolation: String?
    var fill: UInt8?
    var expected: String?
    var normalized: String?
    var refused: String?

    var testDescription: String { expected ?? file }

    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appending(path: "Fixtures/pictures")

    static func bytes(_ name: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: folder.appending(path: name)))
    }

    static let all: [PictureCase] = {
        guard let json = try? bytes("pictures.json") else { return [] }
        return (try? JSONDecoder().decode([PictureCase].self, from: Data(json))) ?? []
    }()

    var preprocessor: ImagePreprocessor {
        get throws {
            let preprocessing = Preprocessing(
                size: size,
                interpolation: try #require(Preprocessing.Interpolation(rawValue: interpolation ?? "bicubic")),
                resizeMode: try #require(Preprocessing.ResizeMode(rawValue: resizeMode ?? "shortest")),
                fill: fill ?? 0)
            return ImagePreprocessor(preprocessing, appliesOrientation: exif ?? false)
        }
    }
}

@Suite("Pixels") struct PixelTests {
    @Test("the fixtures are there, over all formats") func fixtures() {
        for ending in [".jpeg", ".png", ".gif", ".webp"] {
            #expect(PictureCase.all.count { $0.file.hasSuffix(ending) && $0.expected != nil } >= 10)
        }
        #expect(PictureCase.all.count { $0.refused != nil } >= 40)
    }

    @Test("a picture becomes the reference's bytes", arguments: PictureCase.all.filter { $0.expected != nil })
    func matches(_ picture: PictureCase) throws {
        let bytes = try PictureCase.bytes(picture.file)
        let expected = try PictureCase.bytes(try #require(picture.expected))
        let preprocessor = try picture.preprocessor
        let rgb = try preprocessor.rgb(decoding: bytes)
        let differing = zip(rgb, expected).count { $0 != $1 }
        #expect(rgb.count == expected.count && differing == 0, "\(differing) of \(expected.count) bytes differ")
        if picture.exif != true {
            // Through a decoded picture as well: the same bytes as in one pass.
            #expect(try preprocessor.rgb(Picture(decoding: bytes)) == expected)
        }
        if let normalized = picture.normalized {
            let floats = preprocessor.normalized(rgb).flatMap {
                withUnsafeBytes(of: $0.bitPattern.littleEndian, Array.init)
            }
            #expect(try floats == PictureCase.bytes(normalized))
        }
    }

    @Test("what Pillow refuses is refused", arguments: PictureCase.all.filter { $0.refused != nil })
    func refuses(_ picture: PictureCase) throws {
        let bytes = try PictureCase.bytes(picture.file)
        let preprocessor = try picture.preprocessor
        let error = #expect(throws: ImageError.self) { try preprocessor.rgb(decoding: bytes) }
        #expect(error?.description.hasSuffix(".") == true)
        #expect(throws: ImageError.self) { try Picture(decoding: bytes) }
    }

    @Test("normalised numbers are (x / 255 - mean) / deviation in float32, as planes") func normalizes() {
        let preprocessing = Preprocessing(size: 16, mean: [0.5, 0.25, 0.125], deviation: [0.5, 0.3, 0.7])
        let rgb = (0..<(16 * 16 * 3)).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ $0 / 3) }
        let planes = ImagePreprocessor(preprocessing).normalized(rgb)
        for (index, byte) in rgb.enumerated() {
            let (pixel, channel) = (index / 3, index % 3)
            let expected = (Float(byte) / 255 - preprocessing.mean[channel]) / preprocessing.deviation[channel]
            #expect(planes[channel * 256 + pixel].bitPattern == expected.bitPattern)
        }
    }

    @Test("a picture from memory goes the same way as one from a file") func fromMemory() throws {
        let rgb = (0..<(31 * 23 * 3)).map { UInt8(truncatingIfNeeded: $0 &* 97) }
        let picture = try Picture(width: 31, height: 23, rgb: rgb)
        let same = ImagePreprocessor(Preprocessing(size: 23, resizeMode: .shortest))
        // 31 - 23 = 8 columns too many: four are cut on each side, nothing is scaled.
        let cut = (0..<23).flatMap { y in
            let start: Int = (y * 31 + 4) * 3
            return rgb[start..<start + 23 * 3]
        }
        #expect(try same.rgb(picture) == cut)
        #expect(throws: ImageError.self) { try Picture(width: 31, height: 23, rgb: Array(rgb.dropLast())) }
        #expect(throws: ImageError.self) { try Picture(width: 0, height: 23, rgb: []) }
    }

    @Test("every kernel gives the same bytes", arguments: ImagePreprocessor.Kernels.allCases)
    func kernels(_ kernels: ImagePreprocessor.Kernels) throws {
        for picture in PictureCase.all where picture.expected != nil && picture.exif == nil {
            let expected = try picture.preprocessor
            let chosen = ImagePreprocessor(expected.preprocessing, kernels: kernels)
            #expect(
                try chosen.rgb(decoding: PictureCase.bytes(picture.file))
                    == PictureCase.bytes(#require(picture.expected)), "\(picture.testDescription)")
        }
    }

    @Test("many threads decode at once without disturbing one another") func threads() async throws {
        let cases = PictureCase.all.filter { $0.expected != nil }
        let wrong = await withTaskGroup(of: Int.self) { group in
            for start in 0..<8 {
                group.addTask {
                    cases.indices.count { index in
                        let picture = cases[(index + start * 13) % cases.count]
                        let bytes = try? PictureCase.bytes(picture.file)
                        let expected = try? PictureCase.bytes(picture.expected ?? "")
                        let rgb = try? picture.preprocessor.rgb(decoding: bytes ?? [])
                        return rgb == nil || rgb != expected
                    }
                }
            }
            return await group.reduce(0, +)
        }
        #expect(wrong == 0)
    }
}

@Suite("Bad pictures") struct BadPictureTests {
    let preprocessor = ImagePreprocessor(Preprocessing(size: 20))

    private func message(_ bytes: [UInt8], pixelLimit: Int = Picture.defaultPixelLimit) -> String {
        do {
            _ = try Picture(decoding: bytes, pixelLimit: pixelLimit)
            return ""
        } catch {
            return error.description
        }
    }

    @Test("an empty file, and one that is no picture") func noPictures() {
        #expect(message([]).contains("empty"))
        #expect(message([1, 2, 3]).contains("01 02 03"))
        #expect(message(Array("hello, world".utf8)).contains("not a picture"))
        #expect(message([0xff, 0xd8, 0xff]).contains("truncated"))
        #expect(message(Array("GIF89a".utf8)).contains("truncated"))
        #expect(message(Array("RIFF____WEBPVP8 ".utf8)) != "")
        #expect(message([0x89] + Array("PNG\r\n".utf8) + [0x1a, 0x0a]).contains("truncated"))
    }

    @Test("the limit on pixels counts them, holds before memory is taken, and can be raised") func pixelLimit() throws {
        let bytes = try PictureCase.bytes("rgb-444.jpeg")  // 47 x 33
        #expect(message(bytes, pixelLimit: 47 * 33 - 1).contains("1551 pixels, more than the limit of 1550"))
        #expect(message(bytes, pixelLimit: 47 * 33) == "")
        let strict = ImagePreprocessor(Preprocessing(size: 20), pixelLimit: 1550)
        #expect(throws: ImageError.self) { try strict.rgb(decoding: bytes) }

        // A header that promises 60,000 x 60,000 pixels, as Pillow's decompression bombs do.
        var gif = try PictureCase.bytes("palette.gif")
        gif.replaceSubrange(6..<10, with: [0x60, 0xea, 0x60, 0xea])
        #expect(message(gif).contains("60000 x 60000"))
        var webp = try PictureCase.bytes("animated.webp")
        webp.replaceSubrange(24..<30, with: [0xff, 0x3f, 0, 0xff, 0x3f, 0])
        #expect(message(webp).contains("16384 x 16384"))
    }

    @Test("sizes and shapes that cannot be made", arguments: [0, -1, 16385, .max]) func sizes(size: Int) throws {
        let bytes = try PictureCase.bytes("1x37.png")
        let error = #expect(throws: ImageError.self) {
            try ImagePreprocessor(Preprocessing(size: size)).rgb(decoding: bytes)
        }
        #expect(error?.description.contains("\(size) pixels") == true)
        // 1 x 37 at a long side of 10 would be no pixel wide.
        #expect(throws: ImageError.self) {
            try ImagePreprocessor(Preprocessing(size: 10, resizeMode: .longest)).rgb(decoding: bytes)
        }
    }

    @Test("a JPEG of 500 scans is read, and one of more is refused before it takes its time") func scans() throws {
        let bytes = try PictureCase.bytes("progressive.jpeg")
        func isMarker(_ place: Int, _ codes: Set<UInt8>) -> Bool {
            bytes[place] == 0xff && codes.contains(bytes[place + 1])
        }
        let starts = bytes.indices.dropLast().filter { isMarker($0, [0xda]) }
        let first = try #require(starts.first)
        // A scan is its header and what follows up to the next marker, but for zeros that are stuffed in.
        let end = try #require(
            bytes.indices.dropLast().first { $0 > first && bytes[$0] == 0xff && bytes[$0 + 1] != 0 })
        func repeated(to count: Int) -> [UInt8] {
            var many = Array(bytes[..<end])
            for _ in starts.count..<count { many += bytes[first..<end] }
            return many + bytes[end...]
        }
        let preprocessor = ImagePreprocessor(Preprocessing(size: 20))
        #expect(try preprocessor.rgb(decoding: repeated(to: 500)) == preprocessor.rgb(decoding: bytes))
        let error = #expect(throws: ImageError.self) { try preprocessor.rgb(decoding: repeated(to: 501)) }
        #expect(
            error?.description
                == "This is a JPEG of more than 500 scans, which is not supported; save it again in a usual kind.")
        #expect(throws: ImageError.self) { try Picture(decoding: repeated(to: 20_000)) }
    }

    @Test("a shape so extreme that its scaled side cannot be counted is refused, one just short of that is cut")
    func extremeShapes() throws {
        let side = 16384
        for (width, height) in [(131_072, 1), (1, 131_072)] {
            let rgb = [UInt8](repeating: 9, count: 3 * 131_072)
            let picture = try Picture(width: width, height: height, rgb: rgb)
            let error = #expect(throws: ImageError.self) {
                try ImagePreprocessor(Preprocessing(size: side)).rgb(picture)
            }
            let scaled = width > 1 ? "2147483648 x 16384" : "16384 x 2147483648"
            #expect(
                error?.description
                    == "A picture of \(width) x \(height) pixels would be scaled to \(scaled); cut it to a less extreme shape."
            )
            let preprocessor = ImagePreprocessor(Preprocessing(size: 224))
            #expect(try preprocessor.rgb(picture) == [UInt8](repeating: 9, count: 3 * 224 * 224))
        }
    }

    @Test("orientation in damaged metadata counts as none") func damagedMetadata() throws {
        let bytes = try PictureCase.bytes("orientation-6.jpeg")
        let at = try #require(bytes.indices.first { bytes[$0...].starts(with: Array("Exif\0\0".utf8)) })
        #expect(bytes.withUnsafeBytes { Orientation(of: $0) } == .rotated270)
        for offset in 6..<40 {
            for value: UInt8 in [0, 0x7f, 0xff] {
                var damaged = bytes
                damaged[at + offset] = value
                _ = damaged.withUnsafeBytes { Orientation(of: $0) }
            }
        }
        for count in 0..<bytes.count {
            _ = bytes[..<count].withUnsafeBytes { Orientation(of: $0) }
        }
    }

    @Test(
        "orientation in the texts of a PNG, as ImageMagick writes them", arguments: ["tEXt", "zTXt", "iTXt", "damaged"])
    func rawProfile(kind: String) throws {
        // Before "Exif" was a chunk: a directory of one entry, tag 0x0112, a short, 1 of them: 6.
        let exif: [UInt8] =
            Array("Exif\0\0MM".utf8) + [0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0]
        let digits = exif.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        let text = Array("\nexif\n\(exif.count)\n\(digits.prefix(40))\n\(digits.dropFirst(40))\n".utf8)
        // zlib's header and one block that is stored, with its sum.
        var (a, b): (UInt32, UInt32) = (1, 0)
        for byte in text {
            a = (a + UInt32(byte)) % 65521
            b = (b + a) % 65521
        }
        let sum = (0..<4).map { UInt8(truncatingIfNeeded: (b << 16 | a) >> (24 - 8 * $0)) }
        let length = UInt16(text.count)
        let packed =
            [0x78, 0x01, 1] + [length, ~length].flatMap { [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)] } + text + sum
        let name = Array("Raw profile type exif\0".utf8)
        let data =
            switch kind {
            case "tEXt": name + text
            case "zTXt": name + [0] + packed
            case "iTXt": name + [1, 0, 0, 0] + packed
            default: name + [0] + packed.dropLast(9)
            }
        let chunk = Array((kind == "damaged" ? "zTXt" : kind).utf8) + data
        var crc: UInt32 = .max
        for byte in chunk {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc >> 1 ^ (crc & 1 == 1 ? 0xEDB8_8320 : 0) }
        }
        func bigEndian(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) } }
        let png = try PictureCase.bytes("mode-RGB.png")
        let whole = Array(png[..<33]) + bigEndian(UInt32(data.count)) + chunk + bigEndian(~crc) + png[33...]
        #expect(whole.withUnsafeBytes { Orientation(of: $0) } == (kind == "damaged" ? nil : .rotated270))
        for count in 33..<(45 + chunk.count) { _ = whole[..<count].withUnsafeBytes { Orientation(of: $0) } }
    }

    /// A few thousand damaged files; tools/fuzz_pictures does millions with a sanitizer. Nothing may crash, and no
    /// error may be empty.
    @Test("damaged files are read or refused, in one sentence") func mutations() throws {
        var random = Xorshift(state: 0x9e37_79b9_7f4a_7c15)
        let names = PictureCase.all.filter { $0.expected != nil && $0.file.contains(".") }.map(\.file)
        let files = try Set(names).sorted().map { try PictureCase.bytes($0) }
        var (read, refused) = (0, 0)
        for _ in 0..<4000 {
            var bytes = files[random.below(files.count)]
            for _ in 0...random.below(4) where !bytes.isEmpty {
                switch random.below(4) {
                case 0: bytes.removeLast(random.below(bytes.count))
                case 1:
                    let other = files[random.below(files.count)]
                    bytes = bytes.prefix(random.below(bytes.count)) + other.suffix(random.below(other.count))
                default: bytes[random.below(bytes.count)] = UInt8(random.below(256))
                }
            }
            do {
                let limited = ImagePreprocessor(Preprocessing(size: 20), appliesOrientation: true, pixelLimit: 1 << 20)
                #expect(try limited.rgb(decoding: bytes).count == 1200)
                read += 1
            } catch {
                #expect(error.description.hasSuffix("."))
                refused += 1
            }
        }
        #expect(read > 300 && refused > 300)
    }
}

/// The same numbers on every machine.
private struct Xorshift {
    var state: UInt64

    mutating func below(_ bound: Int) -> Int {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return Int(state % UInt64(max(1, bound)))
    }
}
