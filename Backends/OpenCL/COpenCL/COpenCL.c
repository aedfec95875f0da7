// Opens the OpenCL loader and names status codes.
#include "COpenCL.h"

#include <dirent.h>
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Whether a file in the folder where drivers are named to the loader names NVIDIA's, and it is there.
static int names_nvidia(const char *folder) {
    DIR *files = opendir(folder);
    if (files == NULL) { return 0; }
    int found = 0;
    for (struct dirent *entry; !found && (entry = readdir(files)) != NULL;) {
        char path[512], line[512] = "";
        if (strstr(entry->d_name, ".icd") == NULL) { continue; }
        if (snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) >= (int)sizeof path) { continue; }
        FILE *file = fopen(path, "r");
        if (file == NULL) { continue; }
        if (fgets(line, sizeof line, file) != NULL && strstr(line, "nvidia") != NULL) {
            line[strcspn(line, "\r\n")] = 0;
            // Left open: the loader opens it next.
            found = dlopen(line, RTLD_NOW | RTLD_LOCAL) != NULL;
        }
        fclose(file);
    }
    closedir(files);
    return found;
}

// Opens what the driver will look for by its bare name, where that is in a folder that the system does not search.
static void open_helpers(const char *folder) {
    static const char *const names[] = {"libcuda.so.1", "libnvidia-gpucomp.", "libnvidia-nvvm", "libnvidia-ptxjitcompiler.so.1"};
    DIR *files = opendir(folder);
    if (files == NULL) { return; }
    for (struct dirent *entry; (entry = readdir(files)) != NULL;) {
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            char path[512];
            if (strncmp(entry->d_name, names[i], strlen(names[i])) == 0
                && snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) < (int)sizeof path) {
                (void)dlopen(path, RTLD_LAZY | RTLD_GLOBAL);
            }
        }
    }
    closedir(files);
}

// In containers NVIDIA's driver is often there while nothing names it to the loader: then it is named here, to ocl-icd by OCL_ICD_VENDORS
// and to the Khronos group's loader by OCL_ICD_FILENAMES; each passes over what is meant for the other, and knows no other driver then.
static void name_nvidia(void) {
    static const char *const folders[] = {
        "/usr/local/nvidia/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"};
    if (getenv("OCL_ICD_VENDORS") != NULL || access("/dev/nvidiactl", F_OK) != 0 || names_nvidia("/etc/OpenCL/vendors")) { return; }
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/libnvidia-opencl.so.1", folders[i]);
        if (access(path, F_OK) != 0) { continue; }
        open_helpers(folders[i]);
        if (dlopen(path, RTLD_NOW | RTLD_LOCAL) == NULL) { continue; }
        setenv("OCL_ICD_VENDORS", path, 1);
        setenv("OCL_ICD_FILENAMES", path, 0);
        return;
    }
}

COpenCLLoadResult copencl_load(COpenCLFunctions *functions) {
    name_nvidia();
    void *library = dlopen("libOpenCL.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) { return COpenCLNoLibrary; }
    void *address;
#define COPENCL_FILL(name) \
    address = dlsym(library, #name); \
    if (address == NULL) { return COpenCLTooOld; } \
    functions->name = (__typeof__(name) *)address;
    COPENCL_FUNCTIONS(COPENCL_FILL)
#undef COPENCL_FILL
    return COpenCLLoaded;
}

const char *copencl_status_name(cl_int status) {
    switch (status) {
#define COPENCL_NAME(name) \
    case name: return #name;
        COPENCL_NAME(CL_SUCCESS)
        COPENCL_NAME(CL_DEVICE_NOT_FOUND)
        COPENCL_NAME(CL_DEVICE_NOT_AVAILABLE)
        COPENCL_NAME(CL_COMPILER_NOT_AVAILABLE)
        COPENCL_NAME(CL_MEM_OBJECT_ALLOCATION_FAILURE)
        COPENCL_NAME(CL_OUT_OF_RESOURCES)
        COPENCL_NAME(CL_OUT_OF_HOST_MEMORY)
        COPENCL_NAME(CL_PROFILING_INFO_NOT_AVAILABLE)
        COPENCL_NAME(CL_MEM_COPY_OVERLAP)
        COPENCL_NAME(CL_BUILD_PROGRAM_FAILURE)
        COPENCL_NAME(CL_MAP_FAILURE)
        COPENCL_NAME(CL_MISALIGNED_SUB_BUFFER_OFFSET)
        COPENCL_NAME(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST)
        COPENCL_NAME(CL_COMPILE_PROGRAM_FAILURE)
        COPENCL_NAME(CL_LINKER_NOT_AVAILABLE)
        COPENCL_NAME(CL_LINK_PROGRAM_FAILURE)
        COPENCL_NAME(CL_INVALID_VALUE)
        COPENCL_NAME(CL_INVALID_DEVICE_TYPE)
        COPENCL_NAME(CL_INVALID_PLATFORM)
        COPENCL_NAME(CL_INVALID_DEVICE)
        COPENCL_NAME(CL_INVALID_CONTEXT)
        COPENCL_NAME(CL_INVALID_QUEUE_PROPERTIES)
        COPENCL_NAME(CL_INVALID_COMMAND_QUEUE)
        COPENCL_NAME(CL_INVALID_HOST_PTR)
        COPENCL_NAME(CL_INVALID_MEM_OBJECT)
        COPENCL_NAME(CL_INVALID_BINARY)
        COPENCL_NAME(CL_INVALID_BUILD_OPTIONS)
        COPENCL_NAME(CL_INVALID_PROGRAM)
        COPENCL_NAME(CL_INVALID_PROGRAM_EXECUTABLE)
        COPENCL_NAME(CL_INVALID_KERNEL_NAME)
        COPENCL_NAME(CL_INVALID_KERNEL_DEFINITION)
        COPENCL_NAME(CL_INVALID_KERNEL)
        COPENCL_NAME(CL_INVALID_ARG_INDEX)
        COPENCL_NAME(CL_INVALID_ARG_VALUE)
        COPENCL_NAME(CL_INVALID_ARG_SIZE)
        COPENCL_NAME(CL_INVALID_KERNEL_ARGS)
        COPENCL_NAME(CL_INVALID_WORK_DIMENSION)
        COPENCL_NAME(CL_INVALID_WORK_GROUP_SIZE)
        COPENCL_NAME(CL_INVALID_WORK_ITEM_SIZE)
        COPENCL_NAME(CL_INVALID_GLOBAL_OFFSET)
        COPENCL_NAME(CL_INVALID_EVENT_WAIT_LIST)
        COPENCL_NAME(CL_INVALID_EVENT)
        COPENCL_NAME(CL_INVALID_OPERATION)
        COPENCL_NAME(CL_INVALID_BUFFER_SIZE)
        COPENCL_NAME(CL_INVALID_GLOBAL_WORK_SIZE)
        COPENCL_NAME(CL_INVALID_PROPERTY)
        COPENCL_NAME(CL_INVALID_COMPILER_OPTIONS)
        COPENCL_NAME(CL_INVALID_LINKER_OPTIONS)
#undef COPENCL_NAME
    case -1001: return "CL_PLATFORM_NOT_FOUND_KHR";
    // NVIDIA's: a kernel reached memory that it does not own. The process does not get its device back.
    case -9999: return "NVIDIA's sign of a fault";
    default: return "an unknown status";
    }
}
