import CLIPGPU
import Testing

@Test(
    "A device's text is read and written back",
    arguments: [
        "auto", "cpu", "gpu", "gpu:0", "gpu:12", "gpu:all", "opencl", "opencl:1", "cuda", "cuda:0",
        "opencl:0,opencl:1", "cpu,gpu:1,cuda",
    ])
func deviceRoundTrip(text: String) throws {
    #expect(try #require(Device(text)).description == text)
}

@Test(
    "A text that names no device is refused",
    arguments: [
        "", "tpu", "gpu:", "gpu:-1", "cpu:0", "auto:1", "opencl:all", "GPU", ",", "cpu,", "cpu,auto", "gpu:all,cpu",
        "cpu,tpu",
    ])
func deviceRefusal(text: String) {
    #expect(Device(text) == nil)
}

@Test("CUDA is refused by a sentence that says what to use instead")
func cuda() {
    let error = #expect(throws: CLIPError.self) { try CLIP.load(device: Device("cuda") ?? .cpu) }
    #expect(error?.code == .device)
    #expect(error?.description.contains("--device gpu") == true)
}

@Test("An OpenCL device that is not there is an error, never another device")
func missingOpenCLDevice() {
    let error = #expect(throws: CLIPError.self) { try CLIP.load(device: .openCL(99)) }
    #expect(error?.code == .device)
}

@Test("Of the devices that there are, the switch's position names some")
func namedDevices() throws {
    let devices = Device.available().devices
    func named(_ text: String) throws -> [String] {
        try #require(Device(text)).all(of: devices).map(\.identifier)
    }
    #expect(try named("auto") == devices.map(\.identifier))
    #expect(try named("cpu") == ["cpu"])
    #expect(try named("gpu") == devices.filter { $0.kind == "gpu" }.map(\.identifier))
    let openCL = devices.filter { $0.identifier.hasPrefix("opencl:") }.map(\.identifier)
    #expect(try named("opencl") == openCL)
    for identifier in openCL { #expect(try named("cpu," + identifier) == ["cpu", identifier]) }
    #expect(throws: CLIPError.self) { try named("opencl:99") }
}

@Test("A list is strict, and names no device twice")
func deviceList() throws {
    let twice = #expect(throws: CLIPError.self) { try CLIP.load(device: Device("cpu,cpu") ?? .automatic) }
    #expect(twice?.code == .device && twice?.description.contains("cpu twice") == true)
    let missing = #expect(throws: CLIPError.self) { try CLIP.load(device: Device("cpu,opencl:99") ?? .automatic) }
    #expect(missing?.code == .device)
}

@Test("a card that two drivers list is one card for gpu:all")
func oneCard() {
    #expect(DeviceSelection.distinct([[0, 1, 0], [0, 1, 0], nil, [0, 2, 0], nil, [0, 1, 0]]) == [0, 2, 3, 4])
    #expect(DeviceSelection.distinct([nil, nil]) == [0, 1] && DeviceSelection.distinct([]).isEmpty)
}

@Test("Every device that is listed can be named")
func listedDevices() {
    let devices = Device.available().devices
    #expect(devices.first?.identifier == "cpu")
    for description in devices { #expect(Device(description.identifier)?.description == description.identifier) }
}
