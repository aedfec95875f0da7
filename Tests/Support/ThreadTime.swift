// What several test targets need: time that other tests on the same machine do not lengthen.

import Foundation

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Seconds that this thread has computed so far; what it waits for, or for its turn, does not count. A limit on the
/// difference of two tells a case that hangs from one on a busy machine.
public func threadSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}
