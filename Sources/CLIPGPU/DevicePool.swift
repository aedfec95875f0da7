// Several devices at once: a thread for each, which pulls the next batch when its device has room for it. A fast device
// so takes more batches than a slow one, and neither waits for the other.

import CLIPCompute
import CLIPModel
import Dispatch
import Synchronization

/// Inputs of one kind that are computed together, as a device takes them.
package enum EmbeddingBatch: Sendable {
    /// `[count, side, side, 3]`
    case bytes([UInt8])
    /// `[count, 3, side, side]`, normalised.
    case floats([Float])
    /// Not padded.
    case tokens([[Int32]])
}

/// What is known of a device once a model is on it.
package struct LoadedDevice: Sendable {
    package var description: DeviceDescription
    package var precision: Precision
    /// Batches that may be under way on it at once.
    package var laneCount = 1
    package var preferredImages = 1
    package var preferredTexts = 1
    /// Things worth a warning, and things worth a note.
    package var notices: [String] = []
    package var remarks: [String] = []

    package init(description: DeviceDescription, precision: Precision) {
        self.description = description
        self.precision = precision
    }
}

/// A model on one device, as the thread that owns it sees it.
package struct DeviceWorker {
    package var device: LoadedDevice
    /// Hands a batch over without waiting; what it returns waits for the rows. `alone`: no other batch is under way or to
    /// come before that.
    package var begin: (_ batch: EmbeddingBatch, _ alone: Bool) throws -> () throws -> [Float]
    /// Seconds that the device has spent computing so far.
    package var busySeconds: () -> Double

    package init(
        device: LoadedDevice, begin: @escaping (_ batch: EmbeddingBatch, _ alone: Bool) throws -> () throws -> [Float],
        busySeconds: @escaping () -> Double
    ) {
        self.device = device
        self.begin = begin
        self.busySeconds = busySeconds
    }
}

package final class DevicePool {
    /// Makes a worker, on the thread that will own it.
    package typealias Opening = @Sendable () throws -> DeviceWorker
    package typealias Rows = Result<[Float], CLIPError>

    /// Those that opened, in the order given.
    package let devices: [LoadedDevice]
    /// Why the others did not.
    package let failures: [CLIPError]
    private let busy: [Meter]
    private let batches: BatchQueue

    /// Opens all devices at once and waits until each is open or has failed.
    package init(_ openings: [Opening]) {
        let batches = BatchQueue()
        let opened = openings.enumerated().map { index, open in
            let box = ResultBox<Result<LoadedDevice, CLIPError>>()
            let meter = Meter()
            DispatchQueue(label: "clip-gpu.device.\(index)").async { Self.work(open, batches, box, meter) }
            return (box, meter)
        }
        var devices: [LoadedDevice] = []
        var busy: [Meter] = []
        var failures: [CLIPError] = []
        for (box, meter) in opened {
            switch box.wait() {
            case .success(let device):
                devices.append(device)
                busy.append(meter)
            case .failure(let error): failures.append(error)
            }
        }
        self.devices = devices
        self.failures = failures
        self.busy = busy
        self.batches = batches
        batches.makeRoom(devices.count)
    }

    deinit { batches.close(workers: devices.count) }

    /// Hands a batch to whichever device pulls it first. Waits while as many batches as there are devices have not been
    /// pulled yet.
    package func begin(_ batch: EmbeddingBatch) -> ResultBox<Rows> { batches.add(batch) }

    /// The rows of one batch after the other, in the order of the batches, with at most `ahead` of them under way.
    package func rows(of inputs: [EmbeddingBatch], ahead: Int) throws -> [[Float]] {
        var running = Queue<ResultBox<Rows>>()
        var rows: [[Float]] = []
        for batch in inputs {
            running.append(begin(batch))
            if running.count > ahead, let box = running.popFirst() { rows.append(try box.wait().get()) }
        }
        while let box = running.popFirst() { rows.append(try box.wait().get()) }
        return rows
    }

    /// Seconds that each device has spent computing.
    package var busySeconds: [Double] { busy.map(\.seconds) }

    /// The life of one device's thread.
    private static func work(
        _ open: Opening, _ batches: BatchQueue, _ opened: ResultBox<Result<LoadedDevice, CLIPError>>, _ meter: Meter
    ) {
        let worker: DeviceWorker
        do {
            worker = try CLIP.translatingErrors(open)
        } catch {
            opened.set(.failure(error as? CLIPError ?? CLIPError(.device, "\(error)")))
            return
        }
        opened.set(.success(worker.device))
        let name = worker.device.description.description
        func failure(_ error: any Error) -> CLIPError {
            CLIPError((error as? CLIPError)?.code ?? .device, "\(name): \(error)")
        }
        var running = Queue<(finish: () throws -> [Float], rows: ResultBox<Rows>)>()
        // A device that is lost fails at once and would take batch after batch from those that work.
        var failures = 0
        while true {
            if failures >= 2, running.count == 0 {
                if batches.leave() { return }
                failures = 0
            }
            if failures < 2, running.count < worker.device.laneCount, let next = batches.next(waits: running.count == 0)
            {
                do {
                    running.append((try CLIP.translatingErrors { try worker.begin(next.batch, false) }, next.rows))
                } catch {
                    let error = failure(error)
                    if error.code == .device { failures += 1 }
                    next.rows.set(.failure(error))
                }
            } else if let (finish, rows) = running.popFirst() {
                let result = Rows { () throws(CLIPError) in
                    do { return try CLIP.translatingErrors(finish) } catch { throw failure(error) }
                }
                if case .failure(let error) = result, error.code == .device { failures += 1 } else { failures = 0 }
                meter.set(worker.busySeconds())
                rows.set(result)
            } else {
                return
            }
        }
    }
}

/// Batches that no device has pulled yet, first in, first out.
private final class BatchQueue: Sendable {
    typealias Item = (batch: EmbeddingBatch, rows: ResultBox<DevicePool.Rows>)
    private let items = Mutex(Queue<Item>())
    private let available = DispatchSemaphore(value: 0)
    private let room = DispatchSemaphore(value: 0)
    private let workers = Mutex(0)

    func makeRoom(_ count: Int) {
        workers.withLock { $0 = count }
        for _ in 0..<count { room.signal() }
    }

    func add(_ batch: EmbeddingBatch) -> ResultBox<DevicePool.Rows> {
        room.wait()
        let rows = ResultBox<DevicePool.Rows>()
        items.withLock { $0.append((batch, rows)) }
        available.signal()
        return rows
    }

    /// The next batch; none where there is none right now, or, for one who waits, where there will be no more.
    func next(waits: Bool) -> Item? {
        if waits { available.wait() } else if available.wait(timeout: .now()) != .success { return nil }
        let item = items.withLock { $0.popFirst() }
        if item == nil {
            available.signal()  // Closed: the others that wait see it as well.
        } else {
            room.signal()
        }
        return item
    }

    /// For a worker that pulls no more: whether another is left.
    func leave() -> Bool {
        workers.withLock { workers in
            if workers < 2 { return false }
            workers -= 1
            return true
        }
    }

    /// After the last batch; each worker ends once nothing is left.
    func close(workers: Int) { makeAvailable(workers) }

    private func makeAvailable(_ count: Int) {
        for _ in 0..<count { available.signal() }
    }
}

/// A number that one thread writes and others read.
private final class Meter: Sendable {
    private let value = Mutex(0.0)
    var seconds: Double { value.withLock { $0 } }
    func set(_ seconds: Double) { value.withLock { $0 = seconds } }
}
