// swift-tools-version: 6.2
// A package as a user would write it: depends on this one by path and imports the library.
import PackageDescription

let package = Package(
    name: "user-package",
    dependencies: [.package(name: "clip-gpu", path: "../..")],
    targets: [
        .executableTarget(name: "five-lines", dependencies: [.product(name: "CLIPGPU", package: "clip-gpu")])
    ],
    swiftLanguageModes: [.v6]
)
