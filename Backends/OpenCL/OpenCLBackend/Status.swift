// Status codes of OpenCL as errors of the contract, and the table of functions.

import CLIPCompute
import COpenCL

/// The functions of the loader, opened once for each owner.
///
/// A machine without OpenCL gets one sentence that says what to install.
func loadOpenCL() throws(BackendError) -> COpenCLFunctions {
    // Every member is written by a successful load; before that, nothing reads it.
    let table = UnsafeMutablePointer<COpenCLFunctions>.allocate(capacity: 1)
    defer { table.deallocate() }
    switch copencl_load(table) {
    case COpenCLLoaded:
        return table.pointee
    case COpenCLTooOld:
        throw BackendError(
            .unavailable, "libOpenCL.so.1 lacks functions of OpenCL 1.2; install a newer one (ocl-icd-libopencl1)")
    default:
        throw BackendError(
            .unavailable,
            "there is no OpenCL here: libOpenCL.so.1 cannot be opened; install ocl-icd-libopencl1 and a driver"
                + " (the graphics card's, or pocl-opencl-icd for the CPU)")
    }
}

/// Throws where a call failed; `what` says what was tried, as in "creating a buffer of 4096 bytes".
func check(_ status: cl_int, _ what: @autoclosure () -> String) throws(BackendError) {
    guard status != CL_SUCCESS else { return }
    let code: BackendError.Code =
        switch status {
        case CL_MEM_OBJECT_ALLOCATION_FAILURE, CL_OUT_OF_RESOURCES, CL_OUT_OF_HOST_MEMORY: .outOfMemory
        case CL_DEVICE_NOT_FOUND, CL_DEVICE_NOT_AVAILABLE, -1001: .unavailable
        default: .execution
        }
    throw BackendError(
        code,
        "OpenCL: \(what()) failed with \(String(cString: copencl_status_name(status))) (\(status))"
            + (code == .outOfMemory ? "; smaller batches need less memory" : ""))
}
