// swift-tools-version: 6.2
// The CPU backend's tests with its C side elsewhere: run by a processor that an emulator plays (tools/check-neon). All Swift is the
// product's own, by symbolic links; CCPU's functions are replaced by ones that send the call to the emulated process.
import PackageDescription

let swift: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let package = Package(
    name: "emulated-package",
    targets: [
        .target(name: "CHalves"),
        .target(
            name: "CLIPCompute", dependencies: ["CHalves"], swiftSettings: swift, linkerSettings: [.linkedLibrary("m")]),
        .target(name: "BackendTesting", dependencies: ["CLIPCompute"], swiftSettings: swift),
        .target(name: "CCPU"),
        .target(name: "CPUBackend", dependencies: ["CCPU", "CLIPCompute"], swiftSettings: swift),
        .testTarget(name: "BackendTests", dependencies: ["BackendTesting", "CPUBackend"], swiftSettings: swift),
    ],
    swiftLanguageModes: [.v6],
    cLanguageStandard: .gnu2x
)
