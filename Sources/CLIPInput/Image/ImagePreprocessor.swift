// Pictures to a model's input, to the byte as torchvision's transforms make it with Pillow.
internal import CImageCodecs

/// Turns pictures into the square of RGB bytes, and that into the normalised numbers, that a model was trained on.
///
/// The reference is openai-clip's `_transform` (`Resize`, `CenterCrop`, `convert("RGB")`, `ToTensor`, `Normalize`) and
/// open_clip's `image_transform` for the other resize modes. A value of this type holds no state and may be used from
/// many threads at once.
package struct ImagePreprocessor: Sendable {
    /// Which code scales. All give the same bytes, which is what tests look at; what the machine lacks is generic.
    package enum Kernels: Sendable, CaseIterable {
        case best, avx2, generic
    }

    package let preprocessing: Preprocessing
    /// Whether pictures are turned as their EXIF data say. The reference does not.
    package let appliesOrientation: Bool
    /// Larger pictures are refused.
    package let pixelLimit: Int
    package let kernels: Kernels
    /// The normalised value of every byte in every channel, [3, 256].
    private let table: [Float]

    package init(
        _ preprocessing: Preprocessing, appliesOrientation: Bool = false,
        pixelLimit: Int = Picture.defaultPixelLimit, kernels: Kernels = .best
    ) {
        self.preprocessing = preprocessing
        self.appliesOrientation = appliesOrientation
        self.pixelLimit = pixelLimit
        self.kernels = kernels
        table = (0..<3).flatMap { channel in
            // The same three float32 operations as ToTensor and Normalize, hence the same bits.
            (0..<256).map { (Float($0) / 255 - preprocessing.mean[channel]) / preprocessing.deviation[channel] }
        }
    }

    /// Bytes of one result: size * size * 3.
    package var byteCount: Int { preprocessing.size * preprocessing.size * 3 }

    /// The picture as the model sees it, [size, size, 3] in RGB.
    package func rgb(_ picture: Picture) throws(ImageError) -> [UInt8] {
        try filled { rgb throws(ImageError) in try self.rgb(picture, into: rgb) }
    }

    /// Decodes a picture file and gives it as the model sees it, [size, size, 3] in RGB.
    package func rgb(decoding bytes: [UInt8]) throws(ImageError) -> [UInt8] {
        try filled { rgb throws(ImageError) in
            try bytes.withUnsafeBufferPointer { bytes throws(ImageError) in
                try self.rgb(decoding: UnsafeRawBufferPointer(bytes), into: rgb)
            }
        }
    }

    /// The same into the caller's memory of `byteCount` bytes, which is undefined after an error.
    package func rgb(_ picture: Picture, into rgb: UnsafeMutableBufferPointer<UInt8>) throws(ImageError) {
        precondition(rgb.count == byteCount, "a result takes \(byteCount) bytes, not \(rgb.count)")
        let image = picture.image
        var resize = try geometry(width: picture.width, height: picture.height)
        let status = withUnsafePointer(to: image) { image in
            picture.pixels.withUnsafeBufferPointer {
                cic_resize(image, $0.baseAddress, &resize, rgb.baseAddress)
            }
        }
        try image.check(status)
    }

    /// The same into the caller's memory of `byteCount` bytes, which is undefined after an error. The picture is
    /// scaled while it is decoded and never held as a whole, where its format and the orientation allow that.
    package func rgb(
        decoding bytes: UnsafeRawBufferPointer, into rgb: UnsafeMutableBufferPointer<UInt8>
    ) throws(ImageError) {
        if appliesOrientation, let orientation = Orientation(of: bytes) {
            let picture = try Picture(decoding: bytes, pixelLimit: pixelLimit)
            return try self.rgb(picture.turned(orientation), into: rgb)
        }
        precondition(rgb.count == byteCount, "a result takes \(byteCount) bytes, not \(rgb.count)")
        var image = try CICImage(describing: bytes, pixelLimit: pixelLimit)
        var resize = try geometry(width: Int(image.width), height: Int(image.height))
        let status = cic_decode_resized(
            bytes.bindMemory(to: UInt8.self).baseAddress, bytes.count, &image, &resize, rgb.baseAddress)
        try image.check(status)
    }

    /// (x / 255 - mean) / deviation of [size, size, 3] bytes, as planes [3, size, size].
    package func normalized(_ rgb: [UInt8]) -> [Float] {
        [Float](unsafeUninitializedCapacity: rgb.count) { planes, count in
            rgb.withUnsafeBufferPointer { normalize($0, into: planes) }
            count = rgb.count
        }
    }

    /// The same into the caller's memory, which has as many floats as there are bytes.
    package func normalize(_ rgb: UnsafeBufferPointer<UInt8>, into planes: UnsafeMutableBufferPointer<Float>) {
        precondition(rgb.count % 3 == 0 && planes.count >= rgb.count, "three planes take as many floats as bytes")
        cic_planes(rgb.baseAddress, rgb.count / 3, table, planes.baseAddress)
    }

    private func filled(
        _ fill: (UnsafeMutableBufferPointer<UInt8>) throws(ImageError) -> Void
    ) throws(ImageError) -> [UInt8] {
        try checkSize()
        var failure: ImageError?
        let rgb = [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, count in
            do throws(ImageError) {
                try fill(UnsafeMutableBufferPointer(rebasing: buffer[..<byteCount]))
                count = byteCount
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return rgb
    }

    /// Before anything is computed from the size, or allocated.
    private func checkSize() throws(ImageError) {
        for size in [preprocessing.size, preprocessing.scaledSize ?? preprocessing.size]
        where !(1...16384).contains(size) {
            throw ImageError("A model's picture of \(size) pixels a side was asked for; give 1 to 16384.")
        }
    }

    /// Scaled size and cut, rounded as torchvision and open_clip round them.
    private func geometry(width: Int, height: Int) throws(ImageError) -> CICResize {
        let size = preprocessing.size
        let side = preprocessing.scaledSize ?? size
        try checkSize()
        let scaled: (width: Int, height: Int)
        switch preprocessing.resizeMode {
        case .squash:
            scaled = (side, side)
        case .shortest:
            // torchvision: int(side * long / short), a division of whole numbers that is rounded once, then cut.
            let long = Int(Double(side * max(width, height)) / Double(min(width, height)))
            scaled = width <= height ? (side, long) : (long, side)
        case .longest:
            // open_clip's ResizeKeepRatio: Python's round, which takes halves to the even number.
            let ratio = max(Double(height) / Double(side), Double(width) / Double(side))
            scaled = (
                Int((Double(width) / ratio).rounded(.toNearestOrEven)),
                Int((Double(height) / ratio).rounded(.toNearestOrEven))
            )
        }
        guard scaled.width > 0, scaled.height > 0, scaled.width <= Int(Int32.max), scaled.height <= Int(Int32.max)
        else {
            throw ImageError(
                "A picture of \(width) x \(height) pixels would be scaled to \(scaled.width) x \(scaled.height); "
                    + "cut it to a less extreme shape.")
        }
        return CICResize(
            scaledWidth: Int32(scaled.width), scaledHeight: Int32(scaled.height),
            left: Int32(Self.start(of: size, in: scaled.width)), top: Int32(Self.start(of: size, in: scaled.height)),
            width: Int32(size), height: Int32(size),
            filter: preprocessing.interpolation == .bicubic ? CICFilterBicubic : CICFilterBilinear,
            kernels: kernels.code,
            fill: preprocessing.fill)
    }

    /// Where a cut of `size` begins in the middle of `extent` (torchvision: Python's round of half the difference), or
    /// minus the padding before `extent` (the smaller half).
    static func start(of size: Int, in extent: Int) -> Int {
        if extent < size { return -((size - extent) / 2) }
        return Int((Double(extent - size) / 2).rounded(.toNearestOrEven))
    }
}

extension ImagePreprocessor.Kernels {
    fileprivate var code: CICKernels {
        switch self {
        case .best: CICKernelsBest
        case .avx2: CICKernelsAVX2
        case .generic: CICKernelsGeneric
        }
    }
}
