// The OpenCL entry points that the backend calls, as a table filled at run time, so that a binary starts on a machine
// that has no OpenCL loader.
#pragma once

#ifndef CL_TARGET_OPENCL_VERSION
#define CL_TARGET_OPENCL_VERSION 120
#endif
#include <CL/cl.h>

/// Every function of the table, by the name that the loader exports.
#define COPENCL_FUNCTIONS(X) \
    X(clGetPlatformIDs) \
    X(clGetPlatformInfo) \
    X(clGetDeviceIDs) \
    X(clGetDeviceInfo) \
    X(clCreateContext) \
    X(clReleaseContext) \
    X(clCreateCommandQueue) \
    X(clReleaseCommandQueue) \
    X(clFlush) \
    X(clFinish) \
    X(clCreateBuffer) \
    X(clReleaseMemObject) \
    X(clEnqueueWriteBuffer) \
    X(clEnqueueReadBuffer) \
    X(clEnqueueFillBuffer) \
    X(clEnqueueMapBuffer) \
    X(clEnqueueUnmapMemObject) \
    X(clCreateProgramWithSource) \
    X(clCreateProgramWithBinary) \
    X(clBuildProgram) \
    X(clReleaseProgram) \
    X(clGetProgramInfo) \
    X(clGetProgramBuildInfo) \
    X(clCreateKernel) \
    X(clReleaseKernel) \
    X(clGetKernelInfo) \
    X(clGetKernelWorkGroupInfo) \
    X(clSetKernelArg) \
    X(clEnqueueNDRangeKernel) \
    X(clWaitForEvents) \
    X(clGetEventProfilingInfo) \
    X(clReleaseEvent)

typedef struct {
#define COPENCL_MEMBER(name) __typeof__(name) *_Nonnull name;
    COPENCL_FUNCTIONS(COPENCL_MEMBER)
#undef COPENCL_MEMBER
} COpenCLFunctions;

typedef enum {
    COpenCLLoaded = 0,
    /// The loader, libOpenCL.so.1, cannot be opened.
    COpenCLNoLibrary = 1,
    /// The loader lacks a function of OpenCL 1.2.
    COpenCLTooOld = 2,
} COpenCLLoadResult;

/// Opens libOpenCL.so.1 and fills the table. On failure the table is not usable.
COpenCLLoadResult copencl_load(COpenCLFunctions *_Nonnull functions);

/// The name of a status code as the headers spell it, or "an unknown status".
const char *_Nonnull copencl_status_name(cl_int status);
