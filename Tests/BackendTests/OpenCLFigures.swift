// Figures for Kernels/README.md, on demand: `CLIP_GPU_FIGURES="opencl:1 vector 8x32"` times a product of ViT-B/32's with
// the tile named (all built-in ones without), and a block of it, on the devices whose description has all the other words.

import CLIPCompute
import Foundation
import OpenCLBackend
import Testing

@Suite(.enabled(if: ProcessInfo.processInfo.environment["CLIP_GPU_FIGURES"] != nil), .serialized)
struct OpenCLFigures {
    @Test("rates of the matrix product") func products() throws {
        let words = (ProcessInfo.processInfo.environment["CLIP_GPU_FIGURES"] ?? "").split(separator: " ")
            .map(String.init)
        for device in try OpenCLDevices.all() {
            for family in OpenCLOptions.Family.allCases {
                let tiles = words.compactMap { tile($0, family) }
                let rest = words.filter { tile($0, family) == nil }
                let text = "\(device.identifier) \(device.platform) \(family.rawValue)"
                if !rest.allSatisfy(text.contains) { continue }
                for tile in tiles.isEmpty ? LinearTile.candidates(family).filter({ $0.family == family }) : tiles {
                    var options = OpenCLOptions()
                    options.family = family
                    options.linearTiles = [tile]
                    let precision: Precision = rest.contains("fp16") ? .fp16 : .fp32
                    let backend = try OpenCLBackend(
                        deviceIndex: device.index, precision: precision, options: options)
                    for (rows, inputs, outputs) in [(400, 768, 3072), (400, 3072, 768), (50, 768, 2304)] {
                        let rate = try measure(backend, rows: rows, inputs: inputs, outputs: outputs)
                        print(
                            "\(text) \(precision.rawValue) \(tile): \(rows)x\(inputs)x\(outputs)"
                                + " \(Int(rate.wall)) GFLOP/s, \(Int(rate.own)) of own time")
                    }
                }
            }
        }
    }

    /// "8x32": rows and panel of a vector tile; "128x64x16,8x8": a tiled one.
    private func tile(_ word: String, _ family: OpenCLOptions.Family) -> LinearTile? {
        let numbers = word.split { $0 == "x" || $0 == "," }.compactMap { Int($0) }
        switch (family, numbers.count) {
        case (.vector, 2): return LinearTile(family: .vector, rows: numbers[0], panel: numbers[1])
        case (.tiled, 5):
            return LinearTile(
                family: .tiled, rows: numbers[3], panel: numbers[1], tileRows: numbers[0], columns: numbers[4],
                depth: numbers[2])
        default: return nil
        }
    }

    /// The best of six passes of ten products each, in 10⁹ operations a second; and in 10⁹ operations a second of the
    /// process's own time on all cores, which a busy machine disturbs less (OpenCL devices that are CPUs alone).
    private func measure(
        _ backend: OpenCLBackend, rows: Int, inputs: Int, outputs: Int
    ) throws -> (wall: Double, own: Double) {
        let weight = (0..<(outputs * inputs)).map { Float($0 % 13 - 6) / 64 }
        let linear = try backend.prepare(
            LinearParameters(weight: HostMatrix(HostTensor(weight, shape: [outputs, inputs]))))
        let values = (0..<(rows * inputs)).map { Float($0 % 11 - 5) / 8 }
        var best = Double.infinity
        var own = Double.infinity
        let repeats = 10
        for _ in 0..<6 {
            try backend.begin()
            let x = try backend.upload(values, rows: rows, columns: inputs)
            _ = try backend.damagedGuards()
            let start = DispatchTime.now().uptimeNanoseconds
            let clocks = clock()
            for _ in 0..<repeats { _ = try backend.linear(x, linear) }
            // Waits for what was enqueued; there are no guards to look at.
            _ = try backend.damagedGuards()
            best = min(best, Double(DispatchTime.now().uptimeNanoseconds - start))
            own = min(own, Double(clock() - clocks) * 1000 / Double(ProcessInfo.processInfo.activeProcessorCount))
            _ = try backend.wait(backend.submit(x))
        }
        let operations = 2 * Double(rows * inputs * outputs * repeats)
        return (operations / best, operations / own)
    }
}
