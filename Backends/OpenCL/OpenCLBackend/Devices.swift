// The OpenCL devices of this machine, and what each says it can do.

import CLIPCompute
import COpenCL

/// One OpenCL device as it describes itself.
package struct OpenCLDeviceDescription: Sendable {
    /// Its place in the list: the N of `opencl:N`.
    package let index: Int
    package let kind: DeviceInfo.Kind
    package let name: String
    /// The platform's name and version.
    package let platform: String
    package let driver: String
    /// OpenCL C version, as in "OpenCL C 1.2 PoCL".
    package let languageVersion: String
    package let memory: UInt64
    /// The largest single buffer, in bytes.
    package let largestAllocation: UInt64
    package let localMemory: UInt64
    package let computeUnits: Int
    /// It shares the processor's memory: a graphics unit within a processor, as a rule.
    package let sharesHostMemory: Bool
    package let largestWorkGroup: Int
    /// Floats of one vector register; 1 on most GPUs.
    package let vectorWidth: Int
    /// Arithmetic on halves is reported. Halves in memory need nothing.
    package let half: Bool
    package let subgroupSizes: [Int]
    package let extensions: [String]
    /// Of cl_nv_device_attribute_query: 90 for 9.0; none where the device does not say.
    package let computeCapability: Int?
    /// Of cl_amd_device_attribute_query: 11 for gfx1100; none where the device does not say.
    package let gfxGeneration: Int?
    /// Where the card is, as domain, bus and device on PCI: two drivers may list one card. None where the device does not say.
    package let slot: [UInt32]?

    package var identifier: String { "opencl:\(index)" }

    /// What runs work-groups beside each other: Intel counts its execution units, of which 16 make what others count.
    package var multiprocessors: Int {
        kind == .gpu && extensions.contains("cl_intel_required_subgroup_size")
            ? max(1, computeUnits / 16) : computeUnits
    }

    /// Matrix instructions that it promises, best first. Whether they build, and a self-check, have the last word.
    package var matrixSteps: [MatrixStep] {
        if extensions.contains("cl_intel_subgroup_matrix_multiply_accumulate"), let lanes = subgroupSizes.min() {
            return lanes == 8 ? [.dpas8] : lanes == 16 ? [.dpas16] : []
        }
        switch gfxGeneration {
        case 9: return [.mfma]
        case 11: return [.wmma11]
        case 12: return [.wmma12]
        default: break
        }
        guard let computeCapability, computeCapability >= 80 else { return [] }
        return computeCapability / 10 == 9 ? [.wgmma, .mma] : [.mma]
    }

    /// The same in the words of the contract.
    package var info: DeviceInfo {
        var capabilities = [languageVersion, "\(computeUnits) compute units", "local memory \(localMemory >> 10) KiB"]
        if half { capabilities.append("half") }
        if !subgroupSizes.isEmpty {
            capabilities.append("sub-groups " + subgroupSizes.map(String.init).joined(separator: " "))
        }
        if let computeCapability {
            capabilities.append("compute capability \(computeCapability / 10).\(computeCapability % 10)")
        }
        return DeviceInfo(
            identifier: identifier, kind: kind, name: name, driver: "\(platform), driver \(driver)", memory: memory,
            precisions: [.fp32, .fp16], capabilities: capabilities)
    }
}

package enum OpenCLDevices {
    /// All devices of all platforms, platforms by name and devices in their platform's order.
    ///
    /// Throws `unavailable` where there is no OpenCL loader or no device.
    package static func all() throws(BackendError) -> [OpenCLDeviceDescription] {
        let cl = try loadOpenCL()
        return try handles(cl).enumerated().map { (index, handle) throws(BackendError) in
            try describe(cl, handle, index: index)
        }
    }

    struct Handle {
        let platform: cl_platform_id
        let device: cl_device_id
    }

    static func handles(_ cl: COpenCLFunctions) throws(BackendError) -> [Handle] {
        let none = BackendError(
            .unavailable,
            "there is no OpenCL device here: install a driver (the graphics card's, or pocl-opencl-icd for the CPU)")
        var count: cl_uint = 0
        guard cl.clGetPlatformIDs(0, nil, &count) == CL_SUCCESS, count > 0 else { throw none }
        var platforms = [cl_platform_id?](repeating: nil, count: Int(count))
        try check(cl.clGetPlatformIDs(count, &platforms, nil), "listing platforms")
        var named: [(name: String, platform: cl_platform_id)] = []
        for case .some(let platform) in platforms {
            named.append((platformText(cl, platform, CL_PLATFORM_NAME), platform))
        }
        // The order of installed drivers depends on their files' names; a stable sort by name does not.
        let sorted = named.enumerated().sorted { ($0.element.name, $0.offset) < ($1.element.name, $1.offset) }
        var handles: [Handle] = []
        for (_, (_, platform)) in sorted {
            var count: cl_uint = 0
            let all = cl_device_type(CL_DEVICE_TYPE_ALL)
            guard cl.clGetDeviceIDs(platform, all, 0, nil, &count) == CL_SUCCESS, count > 0 else { continue }
            var devices = [cl_device_id?](repeating: nil, count: Int(count))
            try check(cl.clGetDeviceIDs(platform, all, count, &devices, nil), "listing devices")
            for case .some(let device) in devices { handles.append(Handle(platform: platform, device: device)) }
        }
        if handles.isEmpty { throw none }
        return handles
    }

    static func describe(
        _ cl: COpenCLFunctions, _ handle: Handle, index: Int
    ) throws(BackendError) -> OpenCLDeviceDescription {
        let device = handle.device
        let type = number(cl, device, CL_DEVICE_TYPE, cl_ulong(0))
        let extensions = text(cl, device, CL_DEVICE_EXTENSIONS).split(separator: " ").map(String.init)
        return OpenCLDeviceDescription(
            index: index,
            kind: type & cl_ulong(CL_DEVICE_TYPE_GPU) != 0
                ? .gpu : type & cl_ulong(CL_DEVICE_TYPE_ACCELERATOR) != 0 ? .accelerator : .cpu,
            name: text(cl, device, CL_DEVICE_NAME),
            platform: platformText(cl, handle.platform, CL_PLATFORM_NAME) + " ("
                + platformText(cl, handle.platform, CL_PLATFORM_VERSION) + ")",
            driver: text(cl, device, CL_DRIVER_VERSION),
            languageVersion: text(cl, device, CL_DEVICE_OPENCL_C_VERSION),
            memory: number(cl, device, CL_DEVICE_GLOBAL_MEM_SIZE, cl_ulong(0)),
            largestAllocation: number(cl, device, CL_DEVICE_MAX_MEM_ALLOC_SIZE, cl_ulong(0)),
            localMemory: number(cl, device, CL_DEVICE_LOCAL_MEM_SIZE, cl_ulong(0)),
            computeUnits: Int(number(cl, device, CL_DEVICE_MAX_COMPUTE_UNITS, cl_uint(0))),
            // Deprecated since 2.0, and still answered; the headers have the name for old versions alone.
            sharesHostMemory: number(cl, device, 0x1035, cl_uint(0)) != 0,
            largestWorkGroup: number(cl, device, CL_DEVICE_MAX_WORK_GROUP_SIZE, 0),
            vectorWidth: Int(number(cl, device, CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, cl_uint(0))),
            half: extensions.contains("cl_khr_fp16"),
            subgroupSizes: extensions.contains("cl_intel_required_subgroup_size") ? subgroupSizes(cl, device) : [],
            extensions: extensions,
            computeCapability: extensions.contains("cl_nv_device_attribute_query") ? capability(cl, device) : nil,
            gfxGeneration: extensions.contains("cl_amd_device_attribute_query") ? gfxGeneration(cl, device) : nil,
            slot: slot(cl, device, extensions))
    }

    private static func number<T: FixedWidthInteger>(
        _ cl: COpenCLFunctions, _ device: cl_device_id, _ what: Int32, _ none: T
    ) -> T {
        var value = none
        let status = cl.clGetDeviceInfo(device, cl_device_info(what), MemoryLayout<T>.size, &value, nil)
        return status == CL_SUCCESS ? value : none
    }

    private static func capability(_ cl: COpenCLFunctions, _ device: cl_device_id) -> Int? {
        // CL_DEVICE_COMPUTE_CAPABILITY_MAJOR_NV and _MINOR_NV
        let major = number(cl, device, 0x4000, cl_uint(0)), minor = number(cl, device, 0x4001, cl_uint(0))
        return major > 0 ? Int(major * 10 + minor) : nil
    }

    private static func gfxGeneration(_ cl: COpenCLFunctions, _ device: cl_device_id) -> Int? {
        // CL_DEVICE_GFXIP_MAJOR_AMD
        let major = number(cl, device, 0x404a, cl_uint(0))
        return major > 0 ? Int(major) : nil
    }

    private static func slot(_ cl: COpenCLFunctions, _ device: cl_device_id, _ extensions: [String]) -> [UInt32]? {
        if extensions.contains("cl_khr_pci_bus_info") {
            // CL_DEVICE_PCI_BUS_INFO_KHR: domain, bus, device, function
            var place = [cl_uint](repeating: 0, count: 4)
            guard cl.clGetDeviceInfo(device, 0x410F, 16, &place, nil) == CL_SUCCESS else { return nil }
            return Array(place[..<3])
        }
        if extensions.contains("cl_nv_device_attribute_query") {
            // CL_DEVICE_PCI_DOMAIN_ID_NV, _BUS_ID_NV and _SLOT_ID_NV
            let none = cl_uint.max
            let place = [0x400A, 0x4008, 0x4009].map { number(cl, device, $0, none) }
            return place.contains(none) ? nil : place
        }
        if extensions.contains("cl_amd_device_attribute_query") {
            // CL_DEVICE_TOPOLOGY_AMD: a type (1: PCI), seventeen unused bytes, then bus, device and function
            var place = [UInt8](repeating: 0, count: 24)
            guard cl.clGetDeviceInfo(device, 0x4037, 24, &place, nil) == CL_SUCCESS, place[0] == 1 else { return nil }
            return [0, UInt32(place[21]), UInt32(place[22])]
        }
        return nil
    }

    private static func text(_ cl: COpenCLFunctions, _ device: cl_device_id, _ what: Int32) -> String {
        trimmed { cl.clGetDeviceInfo(device, cl_device_info(what), $0, $1, $2) }
    }

    private static func platformText(_ cl: COpenCLFunctions, _ platform: cl_platform_id, _ what: Int32) -> String {
        trimmed { cl.clGetPlatformInfo(platform, cl_platform_info(what), $0, $1, $2) }
    }

    private static func subgroupSizes(_ cl: COpenCLFunctions, _ device: cl_device_id) -> [Int] {
        // CL_DEVICE_SUB_GROUP_SIZES_INTEL
        let what: cl_device_info = 0x4108
        var size = 0
        guard cl.clGetDeviceInfo(device, what, 0, nil, &size) == CL_SUCCESS, size > 0 else { return [] }
        var sizes = [Int](repeating: 0, count: size / MemoryLayout<Int>.size)
        guard cl.clGetDeviceInfo(device, what, size, &sizes, nil) == CL_SUCCESS else { return [] }
        return sizes
    }

    /// A text of OpenCL, without the zero and the spaces that some drivers leave around it.
    private static func trimmed(
        _ query: (Int, UnsafeMutableRawPointer?, UnsafeMutablePointer<Int>?) -> cl_int
    ) -> String {
        var size = 0
        guard query(0, nil, &size) == CL_SUCCESS, size > 0 else { return "" }
        var bytes = [UInt8](repeating: 0, count: size)
        guard query(size, &bytes, nil) == CL_SUCCESS else { return "" }
        let text = String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        let first = text.firstIndex { $0 != " " } ?? text.endIndex
        let last = text.lastIndex { $0 != " " }.map { text.index(after: $0) } ?? text.endIndex
        return String(text[first..<max(first, last)])
    }
}
