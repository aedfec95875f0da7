// swift-tools-version: 6.2
// The house: one target per floor, arrows downward only. Kernels and backends stand outside Sources/ so that
// each device is one folder. C targets that touch OpenCL and OpenBLAS fill a table of function pointers at run
// time (dlopen), so the binary starts where neither is installed.
import PackageDescription

let swift: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let package = Package(
    name: "clip-gpu",
    products: [
        .library(name: "CLIPGPU", targets: ["CLIPGPU"]),
        .executable(name: "clip-gpu", targets: ["clip-gpu"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
    ],
    targets: [
        // The command and the library
        .executableTarget(
            name: "clip-gpu",
            dependencies: [
                "CLIPGPU", "CLIPServer", .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: swift),
        .target(
            name: "CLIPServer",
            dependencies: [
                "CLIPGPU", "Checkpoints", .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"), .product(name: "NIOHTTP1", package: "swift-nio"),
            ],
            swiftSettings: swift),
        .target(
            name: "CLIPGPU",
            dependencies: [
                "CLIPModel", "CLIPInput", "CLIPHub", "Checkpoints", "CLIPCompute", "BackendTesting", "CPUBackend",
                "OpenCLBackend",
                "CDemoModel", "CZeroShot",
            ],
            swiftSettings: swift),

        // The model and what stands before the device
        .target(name: "CLIPModel", dependencies: ["CLIPCompute", "Checkpoints"], swiftSettings: swift),
        .target(
            name: "CLIPInput", dependencies: ["Checkpoints", "CImageCodecs", "CMergeTable", "CTextTables"],
            swiftSettings: swift),
        .target(name: "Checkpoints", swiftSettings: swift),
        .target(name: "CLIPHub", dependencies: ["CHub", "Checkpoints"], swiftSettings: swift),
        .target(name: "CHub", exclude: ["Data"]),
        .target(
            name: "CImageCodecs",
            linkerSettings: [
                .linkedLibrary(":libjpeg.a"), .linkedLibrary(":libpng16.a"), .linkedLibrary(":libwebpdemux.a"),
                .linkedLibrary(":libwebp.a"), .linkedLibrary(":libgif.a"), .linkedLibrary(":libz.a"),
            ]),
        .target(name: "CMergeTable", exclude: ["Data"]),
        .target(name: "CTextTables", exclude: ["Data"]),
        .target(name: "CDemoModel", exclude: ["Model", "MODEL_CARD.md"]),
        .target(name: "CZeroShot", exclude: ["Data"]),

        // The contract, its suite, and the devices
        .target(
            name: "CLIPCompute", dependencies: ["CHalves"], swiftSettings: swift, linkerSettings: [.linkedLibrary("m")]),
        .target(name: "CHalves"),
        .target(name: "BackendTesting", dependencies: ["CLIPCompute"], swiftSettings: swift),
        .target(name: "CLIPKernels", path: "Kernels", exclude: ["OpenCL", "README.md"]),
        .target(name: "CCPU", path: "Backends/CPU/CCPU"),
        .target(
            name: "CPUBackend", dependencies: ["CCPU", "CLIPCompute"], path: "Backends/CPU/CPUBackend",
            swiftSettings: swift),
        .target(name: "COpenCL", path: "Backends/OpenCL/COpenCL"),
        .target(
            name: "OpenCLBackend", dependencies: ["COpenCL", "CLIPKernels", "CLIPCompute", "CHalves"],
            path: "Backends/OpenCL/OpenCLBackend", swiftSettings: swift),

        // Tests
        .testTarget(
            name: "CLIPInputTests", dependencies: ["CLIPInput", "Checkpoints", "TestSupport"], exclude: ["Fixtures"],
            swiftSettings: swift),
        .testTarget(
            name: "CheckpointsTests", dependencies: ["Checkpoints", "TestSupport"], exclude: ["Fixtures"],
            swiftSettings: swift),
        .testTarget(
            name: "CLIPHubTests", dependencies: ["CLIPHub", "CLIPModel", "Checkpoints"], swiftSettings: swift),
        .testTarget(
            name: "CLIPModelTests",
            dependencies: ["CLIPModel", "BackendTesting", "CPUBackend", "OpenCLBackend", "TestSupport"],
            exclude: ["Fixtures"], swiftSettings: swift),
        .testTarget(
            name: "BackendTests",
            dependencies: ["BackendTesting", "CPUBackend", "OpenCLBackend", "CCPU", "CHalves", "EmulatedVNNI"],
            swiftSettings: swift),
        .target(name: "TestSupport", dependencies: ["CLIPGPU"], path: "Tests/Support", swiftSettings: swift),
        .target(name: "EmulatedVNNI", dependencies: ["CCPU"], path: "Tests/EmulatedVNNI"),
        .testTarget(
            name: "CLIPGPUTests",
            dependencies: ["CLIPGPU", "CLIPHub", "CLIPModel", "CLIPCompute", "Checkpoints", "TestSupport"],
            exclude: ["Fixtures"],
            swiftSettings: swift),
        .testTarget(
            name: "CLIPServerTests", dependencies: ["CLIPServer", "CLIPGPU", "TestSupport"], swiftSettings: swift),
        .testTarget(name: "CommandTests", dependencies: ["clip-gpu"], swiftSettings: swift),
    ],
    swiftLanguageModes: [.v6],
    cLanguageStandard: .gnu2x
)
