// patches: pictures unfolded into one row to a patch, then a linear that adds to class token and positions; and pixels,
// the input of a convolutional stem. Kernels: Kernels/OpenCL/patches.cl, pixels.cl and linear.cl.

import CLIPCompute

package final class OpenCLPatches {
    let product: ProductWeights
    let patch: Int
    let width: Int
    let classToken: Buffer?
    let positions: Buffer?
    /// Rows of one picture that the positions are for.
    let positionCount: Int
    let normalization: PixelNormalization

    init(
        product: ProductWeights, patch: Int, width: Int, classToken: Buffer?, positions: Buffer?, positionCount: Int,
        normalization: PixelNormalization
    ) {
        self.product = product
        self.patch = patch
        self.width = width
        self.classToken = classToken
        self.positions = positions
        self.positionCount = positionCount
        self.normalization = normalization
    }
}

extension OpenCLBackend {
    package func prepare(_ parameters: PatchParameters) throws(BackendError) -> OpenCLPatches {
        let patch = parameters.patchSize, width = parameters.width
        return OpenCLPatches(
            product: try pack(
                parameters.weight.floats(), inputs: 3 * patch * patch, order: Array(0..<width),
                bias: parameters.bias?.floats(), outputs: width, flags: 0),
            patch: patch, width: width,
            classToken: parameters.classToken == nil
                ? nil : try floatBuffer(parameters.classToken, for: "a class token"),
            positions: parameters.positions == nil ? nil : try floatBuffer(parameters.positions, for: "positions"),
            positionCount: parameters.positions?.shape[0] ?? 0, normalization: parameters.normalization)
    }

    package func patches(_ pixels: Pixels, _ patches: OpenCLPatches) throws(BackendError) -> OpenCLMatrix {
        let across = pixels.width / patches.patch, down = pixels.height / patches.patch
        let hasClass = patches.classToken != nil
        let perPicture = across * down + (hasClass ? 1 : 0)
        precondition(
            patches.positions == nil || patches.positionCount == perPicture,
            "\(patches.positionCount) positions for \(perPicture) rows")
        let y = try matrix(rows: pixels.count * perPicture, columns: patches.width)
        let neighbours = [4, 2].first { patches.patch % $0 == 0 } ?? 1
        let program = try programs.program(["patches"], [("PIXELS", neighbours)])
        let begin = try program.kernel("beginPatches")
        try run(begin, groups: (perPicture, pixels.count, 1), items: rowLanes) { call in
            call.matrix(y)
            call.buffer(patches.classToken ?? zeros)
            call.buffer(patches.positions ?? zeros)
            call.uint(patches.width)
            call.uint(hasClass ? 1 : 0)
            call.uint(patches.positions != nil ? 1 : 0)
        }
        let inputs = 3 * patches.patch * patches.patch
        let unfolded = try matrix(rows: pixels.count * across * down, columns: inputs)
        let (region, isFloat) = try upload(pixels)
        let unfold = try program.kernel("unfoldPatches")
        try run(unfold, groups: (1, patches.patch * down, pixels.count), items: rowLanes) { call in
            bindPixels(&call, region, isFloat)
            call.matrix(unfolded)
            call.uint(pixels.height)
            call.uint(pixels.width)
            call.uint(patches.patch)
            call.uint(across)
            call.uint(down)
            bindNormalization(&call, patches.normalization)
        }
        try product(
            unfolded, patches.product, into: y, residual: y,
            rowMap: RowMap(rowsIn: max(across * down, 1), rowsOut: perPicture, first: hasClass ? 1 : 0))
        return y
    }

    package func pixels(
        _ pixels: Pixels, _ normalization: PixelNormalization
    ) throws(BackendError) -> OpenCLMatrix {
        let area = pixels.height * pixels.width
        let y = try matrix(rows: pixels.count * area, columns: 3)
        let (region, isFloat) = try upload(pixels)
        let kernel = try programs.program(["pixels"]).kernel("pixels")
        let items = min(64, description.largestWorkGroup)
        try run(kernel, groups: ((pixels.count * area + items - 1) / items, 1, 1), items: items) { call in
            bindPixels(&call, region, isFloat)
            call.matrix(y)
            call.ulong(pixels.count * area)
            call.uint(area)
            bindNormalization(&call, normalization)
        }
        return y
    }

    private func upload(_ pixels: Pixels) throws(BackendError) -> (Region, isFloat: Bool) {
        let source =
            switch pixels.storage {
            case .bytes(let bytes): UnsafeRawBufferPointer(bytes)
            case .floats(let floats): UnsafeRawBufferPointer(floats)
            }
        let region = try take(source.count)
        try send(source, to: region)
        if case .floats = pixels.storage { return (region, true) }
        return (region, false)
    }

    /// The same memory twice, as bytes and as floats, and where it begins in units of its kind.
    private func bindPixels(_ call: inout Call, _ region: Region, _ isFloat: Bool) {
        call.buffer(region.buffer)
        call.buffer(region.buffer)
        call.ulong(region.offset / (isFloat ? 4 : 1))
        call.uint(isFloat ? 1 : 0)
    }

    private func bindNormalization(_ call: inout Call, _ normalization: PixelNormalization) {
        let (mean, deviation) = (normalization.mean, normalization.deviation)
        call.float4(mean[0], mean[1], mean[2], 0)
        call.float4(deviation[0], deviation[1], deviation[2], 1)
    }
}
