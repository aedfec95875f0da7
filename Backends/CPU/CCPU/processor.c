// What the processor, the scheduler and the control group say.
#define _GNU_SOURCE 1

#include "CCPU.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#if defined(__x86_64__)
/// AVX-VNNI, which is not AVX-512's VNNI of vectors half as long: its instructions are coded otherwise, and Intel's processors
/// without AVX-512 have them.
static bool has_avx_vnni(void) {
    unsigned eax = 0, ebx, ecx, edx;
    return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && eax >> 4 & 1;
}
#endif

bool ccpu_has_instruction_set(ccpu_instruction_set set) {
#if defined(__x86_64__)
    // These ask the operating system too (xgetbv): without its room for the registers a set is not reported.
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
                && __builtin_cpu_supports("f16c");
    bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
                  && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    switch (set) {
        case CCPU_BASE: return true;
        case CCPU_AVX2: return avx2;
        case CCPU_AVX2_VNNI: return avx2 && has_avx_vnni();
        case CCPU_AVX512: return avx512;
        case CCPU_AVX512_VNNI: return avx512 && __builtin_cpu_supports("avx512vnni");
        case CCPU_NEON_DOT: return false;
    }
    return false;
#elif defined(__aarch64__)
    return set == CCPU_BASE || (set == CCPU_NEON_DOT && getauxval(AT_HWCAP) & HWCAP_ASIMDDP);
#else
    return set == CCPU_BASE;
#endif
}

ccpu_instruction_set ccpu_best_instruction_set(void) {
    ccpu_instruction_set best = CCPU_NEON_DOT;
    while (best > CCPU_BASE && !ccpu_has_instruction_set(best)) best--;
    return best;
}

const char *ccpu_processor_name(void) {
    static _Thread_local char name[128];
    name[0] = 0;
#if defined(__x86_64__)
    unsigned words[12], highest;
    if (__get_cpuid(0x80000000, &highest, &words[1], &words[2], &words[3]) && highest >= 0x80000004) {
        for (unsigned i = 0; i < 3; i++)
            __get_cpuid(0x80000002 + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2], &words[4 * i + 3]);
        memcpy(name, words, sizeof words);
        name[sizeof words] = 0;
    }
#else
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];
    while (file && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (!colon || (strncmp(line, "model name", 10) && strncmp(line, "Hardware", 8))) continue;
        snprintf(name, sizeof name, "%s", colon + 1);
        break;
    }
    if (file) fclose(file);
#endif
    char *start = name;
    while (*start == ' ') start++;
    size_t length = strlen(start);
    while (length > 0 && (start[length - 1] == ' ' || start[length - 1] == '\n')) start[--length] = 0;
    return start;
}

/// The whole numbers that a file begins with; how many, at most two.
static int numbers(const char *folder, const char *name, long *first, long *second) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) return 0;
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    int read = fscanf(file, "%ld %ld", first, second);  // "max 100000" reads nothing
    fclose(file);
    return read;
}

/// Whole processors of the quota of one control group, rounded up; 0 for no limit.
static int group_quota(const char *folder) {
    long share = 0, period = 0, none;
    if (numbers(folder, "cpu.max", &share, &period) < 2
        && (numbers(folder, "cpu.cfs_quota_us", &share, &none) < 1
            || numbers(folder, "cpu.cfs_period_us", &period, &none) < 1))
        return 0;
    return share > 0 && period > 0 ? (int)((share + period - 1) / period) : 0;
}

int ccpu_quota(const char *root, const char *groups) {
    int least = group_quota(root);
    FILE *file = fopen(groups, "r");
    if (!file) return least;
    char line[2048];
    while (fgets(line, sizeof line, file)) {
        // "0::/a/b" of version 2, "4:cpu,cpuacct:/a/b" of version 1.
        char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path) continue;
        *path++ = 0;
        path[strcspn(path, "\n")] = 0;
        if (controllers[1] && !strstr(controllers, "cpu")) continue;
        // Every group on the way to the root limits those in it. In a container the path may begin outside of what is seen.
        for (char *end = path + strlen(path); end > path; end = strrchr(path, '/')) {
            *end = 0;
            char folder[4096];
            if (snprintf(folder, sizeof folder, "%s%s", root, path) >= (int)sizeof folder) continue;
            int quota = group_quota(folder);
            if (quota > 0 && (least == 0 || quota < least)) least = quota;
        }
    }
    fclose(file);
    return least;
}

static int quota(void) {
    int now = ccpu_quota("/sys/fs/cgroup", "/proc/self/cgroup"), before = ccpu_quota("/sys/fs/cgroup/cpu", "/proc/self/cgroup");
    return now > 0 && (before == 0 || now < before) ? now : before;
}

int ccpu_available_threads(void) {
    int count = 0;
    // Machines with more processors than a cpu_set_t holds want a larger set.
    for (int processors = CPU_SETSIZE; processors <= 1 << 16 && count == 0; processors *= 4) {
        cpu_set_t *set = CPU_ALLOC(processors);
        if (!set) break;
        size_t size = CPU_ALLOC_SIZE(processors);
        if (sched_getaffinity(0, size, set) == 0) count = CPU_COUNT_S(size, set);
        CPU_FREE(set);
    }
    if (count < 1) count = (int)sysconf(_SC_NPROCESSORS_ONLN);
    int limit = quota();
    if (limit > 0 && limit < count) count = limit;
    return count < 1 ? 1 : count;
}

uint64_t ccpu_physical_memory(void) {
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0;
}
