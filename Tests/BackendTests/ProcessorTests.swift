// What a process may use of a machine.

import CCPU
import Foundation
import Testing

struct ProcessorTests {
    @Test("the least quota of the control groups around a process counts") func quotas() throws {
        let root = NSTemporaryDirectory() + "clip-gpu-" + UUID().uuidString
        defer { try? FileManager.default.removeItem(atPath: root) }
        try FileManager.default.createDirectory(atPath: root + "/a/b", withIntermediateDirectories: true)
        func write(_ name: String, _ text: String) throws { try Data(text.utf8).write(to: URL(filePath: root + name)) }
        try write("/groups", "4:memory:/x\n0::/a/b\n")
        #expect(ccpu_quota(root, root + "/groups") == 0 && ccpu_quota(root, root + "/none") == 0)
        try write("/cpu.max", "800000 100000\n")
        try write("/a/b/cpu.max", "max 100000\n")
        #expect(ccpu_quota(root, root + "/groups") == 8)
        try write("/a/cpu.max", "250000 100000\n")
        #expect(ccpu_quota(root, root + "/groups") == 3)
        try write("/groups", "3:cpu,cpuacct:/a/b\n0::/\n")
        try write("/a/b/cpu.cfs_quota_us", "100000\n")
        try write("/a/b/cpu.cfs_period_us", "100000\n")
        #expect(ccpu_quota(root, root + "/groups") == 1)
    }
}
