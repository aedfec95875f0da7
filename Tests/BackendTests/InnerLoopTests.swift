// The CPU backend's innermost loops as machine code: register tiles whose sums the compiler spills to memory give the right
// numbers at half the speed, which no other test would notice.

import Foundation
import Testing

struct InnerLoopTests {
    /// The clang of Swift's own toolchain.
    private static let clang: String? = Compilers.find("swift").flatMap {
        let clang = URL(fileURLWithPath: $0).resolvingSymlinksInPath().deletingLastPathComponent().path + "/clang"
        return FileManager.default.isExecutableFile(atPath: clang) ? clang : nil
    }

    struct Source: CustomTestStringConvertible, Sendable {
        var file: String
        var target: String
        /// A vector register that is kept on the stack.
        var spill: String
        var testDescription: String { "\(file) for \(target)" }
    }

    static let sources: [Source] =
        [("kernels_base", "xmm"), ("kernels_avx2", "ymm"), ("kernels_avx512", "zmm")].map {
            Source(
                file: $0.0, target: "x86_64-linux-gnu", spill: "%\($0.1)[0-9]+.*\\(%rsp\\)|\\(%rsp\\).*%\($0.1)[0-9]+")
        }
        + ["kernels_base", "kernels_neondot"].map {
            Source(file: $0, target: "aarch64-linux-gnu", spill: "(str|ldr|stp|ldp)\\s+q.*\\[sp")
        }

    @Test("register tiles keep their sums in registers", .enabled(if: clang != nil), arguments: sources)
    func tiles(_ source: Source) throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().path
        let folder = root + "/Backends/CPU/CCPU"
        // As SwiftPM's release builds compile it.
        let compiled = try Compilers.run(
            try #require(Self.clang),
            [
                "--target=" + source.target, "-std=gnu2x", "-O2", "-fno-omit-frame-pointer", "-I", folder, "-I",
                folder + "/include", "-S", "-o", "-", "\(folder)/\(source.file).c",
            ])
        guard compiled.status == 0 else {
            // Headers of the C library for other processors come with `tools/setup --arm`.
            #expect(compiled.output.contains("file not found"), "\(compiled.output.prefix(2000))")
            print("not run: \(source.testDescription): no headers of the C library")
            return
        }
        let spill = try Regex(source.spill)
        var function: Substring = ""
        var tiles: Set<Substring> = []
        for line in compiled.output.split(separator: "\n") {
            if line.hasPrefix("tile_") { function = line.prefix { $0 != ":" } }
            if line.hasPrefix(".Lfunc_end") { function = "" }
            guard !function.isEmpty else { continue }
            tiles.insert(function)
            if line.contains(spill) { Issue.record("\(source.testDescription): \(function) spills: \(line)") }
        }
        #expect(tiles.count >= 12)
    }
}
