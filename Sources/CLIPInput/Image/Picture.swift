// Decoded pictures, in the mode that Pillow would open them in.
internal import CImageCodecs

/// A decoded picture: JPEG, PNG, WebP or GIF (of moving pictures the first frame), told by content.
///
/// The mode matters because the reference scales a picture in its own mode and makes it RGB afterwards: palettes are
/// scaled without a filter, and colours under alpha are weighed by it.
package struct Picture: Sendable, Equatable {
    package enum Mode: Sendable, Hashable {
        /// Black and white: one byte a pixel, 0 or 255. Pillow's "1".
        case bilevel
        /// One byte a pixel. Pillow's "L".
        case grey
        /// One byte a pixel, an index into `palette`. Pillow's "P".
        case palette
        /// Four bytes a pixel: red, green, blue, and one that means nothing. Pillow's "RGB".
        case rgb
        /// Four bytes a pixel, not premultiplied. Pillow's "RGBA", and its "LA" with three equal channels.
        case rgba
        /// Four bytes a pixel, 0 for no ink. Pillow's "CMYK".
        case cmyk
        /// Two bytes a pixel, in the machine's order. Pillow's "I;16".
        case grey16
    }

    package let mode: Mode
    package let width: Int
    package let height: Int
    /// Rows from top to bottom without padding.
    package let pixels: [UInt8]
    /// 256 colours of red, green and blue for `.palette`, otherwise empty.
    package let palette: [UInt8]

    /// Pictures with more pixels are refused, as Pillow refuses them (`DecompressionBombError`): 2 * 89,478,485.
    package static let defaultPixelLimit = 178_956_970

    init(mode: Mode, width: Int, height: Int, pixels: [UInt8], palette: [UInt8] = []) {
        self.mode = mode
        self.width = width
        self.height = height
        self.pixels = pixels
        self.palette = palette
    }

    /// A picture from `rgb` samples in memory, [height, width, 3].
    package init(width: Int, height: Int, rgb: [UInt8]) throws(ImageError) {
        guard width > 0, height > 0, width <= Int(Int32.max), height <= Int(Int32.max),
            rgb.count == width * height * 3
        else {
            throw ImageError(
                "\(rgb.count) RGB samples do not make a picture of \(width) x \(height) pixels; "
                    + "give width * height * 3 of them.")
        }
        let pixels = [UInt8](unsafeUninitializedCapacity: width * height * 4) { buffer, count in
            for pixel in 0..<(width * height) {
                for channel in 0..<3 { buffer[4 * pixel + channel] = rgb[3 * pixel + channel] }
                buffer[4 * pixel + 3] = 255
            }
            count = width * height * 4
        }
        self.init(mode: .rgb, width: width, height: height, pixels: pixels)
    }

    /// Decodes the bytes of a picture file.
    ///
    /// - Parameter pixelLimit: pictures of more pixels are refused before memory is taken for them.
    package init(decoding bytes: UnsafeRawBufferPointer, pixelLimit: Int = defaultPixelLimit) throws(ImageError) {
        var image = try CICImage(describing: bytes, pixelLimit: pixelLimit)
        guard let mode = Mode(image.mode) else { throw ImageError("The picture has an unknown kind of pixel.") }
        let count = Int(image.width) * Int(image.height) * Int(cic_bytes_per_pixel(image.mode))
        var status = CICStatusOK
        let pixels = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            // Codecs write every pixel or fail.
            status = cic_decode(bytes.bindMemory(to: UInt8.self).baseAddress, bytes.count, &image, buffer.baseAddress)
            initialized = status == CICStatusOK ? count : 0
        }
        try image.check(status)
        self.init(
            mode: mode, width: Int(image.width), height: Int(image.height), pixels: pixels,
            palette: mode == .palette ? image.colors : [])
    }

    /// Decodes the bytes of a picture file.
    package init(decoding bytes: [UInt8], pixelLimit: Int = defaultPixelLimit) throws(ImageError) {
        self = try bytes.withUnsafeBufferPointer { bytes throws(ImageError) in
            try Picture(decoding: UnsafeRawBufferPointer(bytes), pixelLimit: pixelLimit)
        }
    }

    /// The same picture as the C functions see it.
    var image: CICImage {
        var image = CICImage()
        image.mode = mode.code
        image.width = Int32(width)
        image.height = Int32(height)
        withUnsafeMutableBytes(of: &image.palette) { $0.copyBytes(from: palette) }
        return image
    }
}

extension Picture.Mode {
    private static let codes: [(Self, CICMode)] = [
        (.bilevel, CICModeBilevel), (.grey, CICModeGrey), (.palette, CICModePalette), (.rgb, CICModeRGB),
        (.rgba, CICModeRGBA), (.cmyk, CICModeCMYK), (.grey16, CICModeGrey16),
    ]

    init?(_ code: CICMode) {
        guard let mode = Self.codes.first(where: { $0.1 == code })?.0 else { return nil }
        self = mode
    }

    var code: CICMode {
        switch self {
        case .bilevel: CICModeBilevel
        case .grey: CICModeGrey
        case .palette: CICModePalette
        case .rgb: CICModeRGB
        case .rgba: CICModeRGBA
        case .cmyk: CICModeCMYK
        case .grey16: CICModeGrey16
        }
    }

    var bytesPerPixel: Int { Int(cic_bytes_per_pixel(code)) }
}

extension CICImage {
    /// Reads the header and refuses what is too large.
    init(describing bytes: UnsafeRawBufferPointer, pixelLimit: Int) throws(ImageError) {
        guard !bytes.isEmpty else { throw ImageError("The file is empty; a JPEG, PNG, WebP or GIF is expected.") }
        self.init()
        let status = cic_describe(bytes.bindMemory(to: UInt8.self).baseAddress, bytes.count, &self)
        if status == CICStatusUnknownFormat {
            let start = bytes.prefix(8).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: " ")
            throw ImageError(
                "This is not a picture that can be read (it begins with the bytes \(start)); "
                    + "JPEG, PNG, WebP and GIF are, so convert it to one of them.")
        }
        try check(status)
        guard width > 0, height > 0 else {
            throw ImageError("The \(formatName) says that it is \(width) x \(height) pixels; the file is damaged.")
        }
        guard Int(width) * Int(height) <= pixelLimit else {
            throw ImageError(
                "The \(formatName) has \(width) x \(height) = \(Int(width) * Int(height)) pixels, more than the limit "
                    + "of \(pixelLimit), which guards against files made to exhaust memory; raise the limit if it is "
                    + "to be trusted.")
        }
    }

    func check(_ status: CICStatus) throws(ImageError) {
        switch status {
        case CICStatusOK: return
        case CICStatusTruncated:
            throw ImageError("The \(formatName) is truncated: the file ends before the picture does; fetch it again.")
        case CICStatusUnsupported:
            throw ImageError("This is \(detailText), which is not supported; save it again in a usual kind.")
        case CICStatusOutOfMemory:
            throw ImageError(
                "There is not enough memory to decode the \(formatName) of \(width) x \(height) pixels; "
                    + "make it smaller or give more memory.")
        default:
            throw ImageError("The \(formatName) is damaged: \(detailText); fetch or save it again.")
        }
    }

    private var formatName: String {
        switch format {
        case CICFormatJPEG: "JPEG"
        case CICFormatPNG: "PNG"
        case CICFormatWebP: "WebP"
        case CICFormatGIF: "GIF"
        default: "picture"
        }
    }

    private var detailText: String {
        withUnsafeBytes(of: detail) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    var colors: [UInt8] { withUnsafeBytes(of: palette) { [UInt8]($0) } }
}
