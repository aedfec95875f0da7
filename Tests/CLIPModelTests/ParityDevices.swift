// The devices that parity is tested on.
import BackendTesting
import CLIPModel

/// Every backend there is on this machine.
func parityDevices() -> [ParityDevice] {
    [
        // float32 storage of values computed in double, in another order than the reference's.
        ParityDevice(name: "reference", tolerance: 1e-5) { model, towers in
            try CLIPEncoder(model, backend: ReferenceBackend(), towers: towers)
        }
    ]
}
