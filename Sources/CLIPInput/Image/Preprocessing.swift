/// What stands between a picture and a model's input: which size, by which filter, how the shape is made square, and
/// the mean and deviation of the pixels.
///
/// The names are those of open_clip's `preprocess_cfg`.
package struct Preprocessing: Sendable, Hashable {
    package enum Interpolation: String, Sendable, Hashable {
        case bicubic, bilinear
    }

    /// How a picture that is not square becomes square.
    package enum ResizeMode: String, Sendable, Hashable {
        /// The short side becomes this long, and the middle is cut out.
        case shortest
        /// Both sides become this long, whatever that does to the shape.
        case squash
        /// The long side becomes this long, and the rest is padded with `fill`.
        case longest
    }

    /// Width and height of the result, in pixels.
    package var size: Int
    /// What `resizeMode` makes of the sides before the middle is cut out, where that is not `size` too.
    package var scaledSize: Int?
    /// Of red, green and blue, where white is 1.
    package var mean: SIMD3<Float>
    package var deviation: SIMD3<Float>
    package var interpolation: Interpolation
    package var resizeMode: ResizeMode
    /// What `longest` pads with: this value in every channel of the picture's own mode, before it becomes RGB.
    package var fill: UInt8

    /// OpenAI's, which most models share.
    package static let clipMean = SIMD3<Float>(0.48145466, 0.4578275, 0.40821073)
    package static let clipDeviation = SIMD3<Float>(0.26862954, 0.26130258, 0.27577711)

    package init(
        size: Int, scaledSize: Int? = nil, mean: SIMD3<Float> = Self.clipMean,
        deviation: SIMD3<Float> = Self.clipDeviation,
        interpolation: Interpolation = .bicubic, resizeMode: ResizeMode = .shortest, fill: UInt8 = 0
    ) {
        self.size = size
        self.scaledSize = scaledSize
        self.mean = mean
        self.deviation = deviation
        self.interpolation = interpolation
        self.resizeMode = resizeMode
        self.fill = fill
    }
}
