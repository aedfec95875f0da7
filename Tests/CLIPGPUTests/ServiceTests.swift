// The form for servers: what many tasks ask is computed together, and each gets its own rows.

import CLIPGPU
import Foundation
import TestSupport
import Testing

@Suite("CLIPService")
struct ServiceTests {
    private let service: CLIPService
    private let texts = (0..<300).map { "sentence number \($0)" + String(repeating: " word", count: $0 % 7) }

    init() throws { service = CLIPService(try CLIP.load(device: .cpu)) }

    @Test("300 tasks at once get their own rows, to the bit, in far fewer batches")
    func many() async throws {
        let clip = try CLIP.load(device: .cpu)
        let expected = try clip.encodeText(clip.tokenize(texts))
        let held = try await HeldService(service)
        let rows = try await withThrowingTaskGroup(of: (Int, [Float]).self) { [service, texts] group in
            for (index, text) in texts.enumerated() {
                group.addTask { (index, try await service.encodeText(service.tokenize([text])).values) }
            }
            while service.statistics.waiting < texts.count { try await Task.sleep(for: .milliseconds(1)) }
            held.release()
            var rows = [[Float]](repeating: [], count: texts.count)
            for try await (index, row) in group { rows[index] = row }
            return rows
        }
        for index in rows.indices { #expect(rows[index] == Array(expected[index])) }
        let statistics = service.statistics
        #expect(statistics.texts == 300 && statistics.images == 0 && statistics.waiting == 0)
        #expect(statistics.batches == (300 - 1) / clip.preferredBatchSize(.text) + 1)
        #expect(statistics.busySeconds.count == 1 && statistics.busySeconds[0] > 0)
    }

    @Test("One request of more than a batch, pictures and tensors and texts mixed, and requests of nothing")
    func shapes() async throws {
        let clip = try CLIP.load(device: .cpu)
        let picture = try clip.preprocess(contentsOf: repository + "/tools/samples/chelsea.jpg")
        let file = Array(try Data(contentsOf: URL(fileURLWithPath: repository + "/tools/samples/chelsea.jpg")))
        let tensor = try clip.preprocess(tensor: picture.pixels)
        let image = try clip.encodeImage([picture])
        let fromTensor = try clip.encodeImage([tensor])
        let expected = try clip.encodeText(clip.tokenize(texts))

        let count = clip.preferredBatchSize(.image) + 3
        async let long = service.encodeText(service.tokenize(texts))
        async let pictures = service.encodeImage(
            [PreprocessedImage](repeating: service.preprocess(file), count: count))
        async let tensors = service.encodeImage([tensor, tensor])
        async let mixed = service.encodeImage([tensor, picture])
        #expect(try await long == expected)
        let rows = try await pictures
        #expect(rows.count == count)
        for row in 0..<rows.count { #expect(rows[row] == image[0]) }
        #expect(try await tensors.values == fromTensor.values + fromTensor.values)
        #expect(try await mixed.values == fromTensor.values + fromTensor.values)

        #expect(try await service.encodeImage([]).count == 0)
        #expect(try await service.encodeText(service.tokenize([])).count == 0)
        #expect(service.statistics.texts == 300)
    }

    @Test("A batch is as large as the caller says, and the rows are the same")
    func batchSize() async throws {
        let expected = try CLIP.load(device: .cpu).encodeText(service.tokenize(texts))
        let small = CLIPService(try CLIP.load(device: .cpu), batchSize: 7)
        #expect(try await small.encodeText(small.tokenize(texts)) == expected)
        #expect(small.statistics.batches == (texts.count + 6) / 7)
    }

    @Test("A task that is cancelled while it waits costs the device nothing, and the others nothing at all")
    func cancellation() async throws {
        let clip = try CLIP.load(device: .cpu)
        let ids = try service.tokenize(texts)
        let held = try await HeldService(service)
        let first = Task { [service] in try await service.encodeText(ids) }
        let cancelled = Task { [service] in try await service.encodeText(ids) }
        while service.statistics.waiting < 600 { try await Task.sleep(for: .milliseconds(1)) }
        cancelled.cancel()
        held.release()
        await #expect(throws: CancellationError.self) { try await cancelled.value }
        let expected = try clip.encodeText(clip.tokenize(texts))
        #expect(try await first.value == expected)
        // Cancelled before it even asked.
        let early = Task { [service] in
            while !Task.isCancelled { await Task.yield() }
            return try await service.encodeText(ids)
        }
        early.cancel()
        await #expect(throws: CancellationError.self) { try await early.value }
        #expect(try await service.encodeText(ids) == expected)
        #expect(service.statistics.texts == 600)
    }

    @Test("What fails before the device fails its own caller: too long a text, no picture")
    func failures() async throws {
        #expect(throws: CLIPError.self) { try service.tokenize([String(repeating: "word ", count: 90)]) }
        #expect(try service.tokenize([String(repeating: "word ", count: 90)], truncate: true).ids[0].count == 77)
        let error = #expect(throws: CLIPError.self) { try service.preprocess([1, 2, 3], name: "upload 7") }
        #expect(error?.code == .input && error?.description.hasPrefix("upload 7: ") == true)
    }
}
