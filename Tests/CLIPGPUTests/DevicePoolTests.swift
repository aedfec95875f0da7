// Several devices at once: order, sharing by speed, and failures, with devices that are made up.

import CLIPCompute
import CLIPGPU
import Foundation
import Synchronization
import Testing

/// Doubles each number of a batch, `lanes` batches at a time. `begin` is called as a batch begins; it takes as long as what
/// that returns.
private func worker(
    _ name: String, lanes: Int = 2, failingAt failure: Int? = nil, begin: @escaping () -> () -> Void = { {} }
) -> DeviceWorker {
    let info = DeviceInfo(
        identifier: name, kind: .gpu, name: "made up", driver: "", memory: nil, precisions: [.fp32], capabilities: [])
    var device = LoadedDevice(description: DeviceDescription(info), precision: .fp32)
    device.laneCount = lanes
    var count = 0
    return DeviceWorker(
        device: device,
        begin: { batch, _ in
            count += 1
            let number = count
            let work = begin()
            guard case .floats(let floats) = batch else { return { [] } }
            return {
                work()
                if number == failure { throw BackendError(.execution, "the device fell off the bus") }
                return floats.map { $0 * 2 }
            }
        },
        busySeconds: { Double(count) })
}

private func batches(_ count: Int) -> [EmbeddingBatch] { (0..<count).map { .floats([Float($0), 0.5]) } }

@Test("Rows stand in the order of the batches, and a slow device does not hold a fast one back")
func poolOrder() throws {
    // A batch of the slow one takes as long as ten of the fast one, however busy the machine is.
    let done = Mutex((fast: 0, slow: 0))
    let pool = DevicePool([
        {
            worker("slow") {
                let end = done.withLock { $0.fast + 10 }
                return {
                    while done.withLock({ $0.fast < end && $0.fast + $0.slow < 198 }) { usleep(1000) }
                    done.withLock { $0.slow += 1 }
                }
            }
        },
        { worker("fast") { { done.withLock { $0.fast += 1 } } } },
    ])
    #expect(pool.devices.map(\.description.identifier) == ["slow", "fast"])
    let rows = try pool.rows(of: batches(200), ahead: 64)
    #expect(rows == (0..<200).map { [Float($0) * 2, 1] })
    // In turn, the slow one would have had 100 of them.
    let slow = done.withLock { $0.slow }
    #expect((1..<40).contains(slow), "the slow device computed \(slow) of 200 batches")
    #expect(pool.busySeconds == [Double(slow), Double(200 - slow)])
    #expect(try pool.rows(of: [], ahead: 4).isEmpty)
}

@Test("A device that fails midway ends the run with its name; the pool can be used again")
func poolFailure() throws {
    let pool = DevicePool([{ worker("good") { { usleep(1000) } } }, { worker("bad", failingAt: 3) }])
    let error = #expect(throws: CLIPError.self) { try pool.rows(of: batches(100), ahead: 16) }
    #expect(error?.code == .device)
    #expect(error?.description.contains("bad (made up)") == true)
    #expect(error?.description.contains("fell off the bus") == true)
    #expect(try pool.rows(of: batches(3), ahead: 16).count == 3)
}

@Test("A device that is lost takes no more batches from those that work, and the last one goes on trying")
func poolLoss() throws {
    let lost = Mutex(0)
    @Sendable func broken() -> DeviceWorker {
        var broken = worker("broken")
        broken.begin = { _, _ in
            lost.withLock { $0 += 1 }
            throw BackendError(.execution, "the device fell off the bus")
        }
        return broken
    }
    let pool = DevicePool([{ worker("good") { { usleep(2000) } } }, { broken() }])
    var failed = 0
    for _ in 0..<10 {
        let boxes = batches(10).map(pool.begin)
        for box in boxes {
            do { _ = try box.wait().get() } catch { failed += 1 }
        }
    }
    #expect((0...2).contains(failed) && lost.withLock { $0 } == failed)

    let alone = DevicePool([{ broken() }])
    for _ in 0..<5 { #expect(throws: CLIPError.self) { try alone.begin(batches(1)[0]).wait().get() } }
}

@Test("A device that does not open is told apart from those that do")
func poolOpening() throws {
    let pool = DevicePool([
        { throw BackendError(.unavailable, "there is no such device") }, { worker("there") },
    ])
    #expect(pool.devices.map(\.description.identifier) == ["there"])
    #expect(pool.failures.count == 1 && pool.failures[0].code == .device)
    #expect(try pool.rows(of: batches(5), ahead: 2).count == 5)
}
