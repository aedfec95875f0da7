// A service that is busy for as long as a test wants it to be.

import CLIPGPU
import Dispatch
import Synchronization

/// Keeps a service's thread from its work, so that what is asked waits, until `release` is called.
public final class HeldService: Sendable {
    private let end = DispatchSemaphore(value: 0)
    private let isHeld = Mutex(false)

    /// Returns once the service is held.
    public init(_ service: CLIPService) async throws {
        Task { await wait(service) }
        while !isHeld.withLock({ $0 }) { try await Task.sleep(for: .milliseconds(1)) }
    }

    private func wait(_ service: isolated CLIPService) {
        isHeld.withLock { $0 = true }
        end.wait()
    }

    /// Lets the service work.
    public func release() { end.signal() }
}
