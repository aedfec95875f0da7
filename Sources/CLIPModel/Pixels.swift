// Parts of a batch of pictures.
import CLIPCompute

extension Pixels {
    /// The pictures of a range, still borrowed.
    package func pictures(_ range: Range<Int>) -> Pixels {
        let size = height * width * 3
        let elements = (range.lowerBound * size)..<(range.upperBound * size)
        let part: Storage =
            switch storage {
            case .bytes(let buffer): .bytes(UnsafeBufferPointer(rebasing: buffer[elements]))
            case .floats(let buffer): .floats(UnsafeBufferPointer(rebasing: buffer[elements]))
            }
        return Pixels(part, count: range.count, height: height, width: width)
    }
}
