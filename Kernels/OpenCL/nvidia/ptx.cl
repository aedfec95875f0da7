// NVIDIA's matrix and copy instructions as macros, with two definitions each: inline PTX for sm_80 and later, and the same
// effect in plain OpenCL C, so that a kernel's index arithmetic and layouts are tested where there is no such GPU.
//
// A kernel that uses them has a work-group of (32, warps, 1), so that get_local_id(0) is the lane, and declares
// `SHARED_MEMORY(bytes)` first. Tiles are named by their address in shared memory, a uint: SHARED_ADDRESS plus a number of bytes.
// All work-items of the work-group reach every macro together, but for copies.
//
// Sources: PTX ISA 8.3, "Matrix multiply-accumulate" (fragment layouts), "cp.async", "ldmatrix", "mbarrier", "Asynchronous warpgroup
// matrix instructions" (descriptors).
//
// Knobs:
//   EMULATED  0: inline PTX; 1: plain C. Lanes exchange data through local memory.
//   WARPS     warps of the work-group
//   LOCAL_ARGUMENT  0: shared memory is declared in the kernel; 1: it is the kernel's last argument. Of large pieces a driver may
//             take one form and refuse the other.

// NVIDIA's driver knows the word asm, as every use of it in public does; clang in a strict language mode does not.
#ifdef __NV_CL_C_VERSION
#define PTX asm
#else
#define PTX __asm__
#endif

#define STRING_(x) #x
#define STRING(x) STRING_(x)

#if !EMULATED

#if LOCAL_ARGUMENT
#define SHARED_PARAMETER , __local uint4 *shared_memory
#define SHARED_MEMORY(bytes)
#else
#define SHARED_PARAMETER
#define SHARED_MEMORY(bytes) __local uint4 shared_memory[(bytes) / 16] __attribute__((aligned(1024)))
#endif
// A __local pointer is an offset into the work-group's window already.
#define SHARED_ADDRESS ((uint)(size_t)shared_memory)

// 16 bytes from global to shared memory, of which the last (16 - count) are zeros and not read. `from` is a multiple of 16.
#define COPY16(to, from, count) \
    PTX volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(count) : "memory")
// Closes a group of copies; waits until at most `pending` (a literal) groups of this work-item are under way.
#define COPY_COMMIT() PTX volatile("cp.async.commit_group;" ::: "memory")
#define COPY_WAIT(pending) PTX volatile("cp.async.wait_group " STRING(pending) ";" ::: "memory")

// Four 8x8 matrices of halves: lane l names row l % 8 of matrix l / 8. r[i] is the pair (2 (lane % 4), + 1) of row lane / 4 of
// matrix i; transposed, of column lane / 4.
#define LOAD_MATRICES(r, address) \
    PTX volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" \
                 : "=r"((r)[0]), "=r"((r)[1]), "=r"((r)[2]), "=r"((r)[3]) \
                 : "r"(address) \
                 : "memory")
#define LOAD_MATRICES_TRANSPOSED(r, address) \
    PTX volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];" \
                 : "=r"((r)[0]), "=r"((r)[1]), "=r"((r)[2]), "=r"((r)[3]) \
                 : "r"(address) \
                 : "memory")

// c[16][8] += a[16][16] · b[16][8], halves into floats. Of lane l, with g = l / 4 and t = l % 4: c[0], c[1] are row g, columns 2t
// and 2t + 1, c[2], c[3] the same of row g + 8. Sums are accumulated in place: operands of inline PTX that are read and written apart
// were seen to be read too early.
#define MULTIPLY(c, a, b0, b1) \
    PTX volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
                 : "+f"((c)[0]), "+f"((c)[1]), "+f"((c)[2]), "+f"((c)[3]) \
                 : "r"((a)[0]), "r"((a)[1]), "r"((a)[2]), "r"((a)[3]), "r"(b0), "r"(b1))

// Choices that all lanes of a warp make alike, around instructions that they reach together. Of two ways the first is right wherever
// `for_group` holds, which is alike in all warps.
#define IF_WARP(condition) if (condition)
#define ONE_OF_TWO(condition, for_group) if (condition)
#define OR_ELSE else

// The value of lane (lane ^ mask).
static inline float exchange(float v, uint mask) {
    float other;
    PTX volatile("shfl.sync.bfly.b32 %0, %1, %2, 0x1f, 0xffffffff;" : "=f"(other) : "f"(v), "r"(mask));
    return other;
}
#define EXCHANGE(v, mask) exchange(v, mask)

// A barrier in shared memory (sm_90), 8 bytes at a multiple of 8. It is in its phase 0, 1, 2, ... and completes one when `arrivals` have
// arrived in it and all bytes that were announced have landed. Prepared by one work-item, which then tells the others by a work-group
// barrier.
#define BARRIER_INIT(address, arrivals) \
    PTX volatile("mbarrier.init.shared.b64 [%0], %1; fence.proxy.async.shared::cta;" ::"r"(address), "r"(arrivals) : "memory")
// `count` bytes from global to shared memory by one work-item; both multiples of 16. It arrives at the barrier and announces the bytes.
#define BULK_COPY(to, from, count, barrier_address) \
    PTX volatile("{ .reg .b64 state; mbarrier.arrive.expect_tx.shared.b64 state, [%3], %2; }\n\t" \
                 "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), \
                 "l"(from), "r"(count), "r"(barrier_address) \
                 : "memory")
// Waits until the barrier has completed a phase of this parity and is in the next one. Gives 1 if it has. A phase that never comes
// would hold the device for ever, so that patience ends after two seconds; from then on nothing is waited for (`patient` 0) and what is
// computed is wrong, which the self-check at start finds.
static inline uint barrier_is_past(uint address, uint parity) {
    uint done;
    PTX volatile(
        "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
        : "=r"(done)
        : "r"(address), "r"(parity)
        : "memory");
    return done;
}
static inline ulong nanoseconds(void) {
    ulong now;
    PTX volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
}
static inline uint barrier_wait(uint address, uint parity, uint patient) {
    uint done = patient && barrier_is_past(address, parity);
    if (patient && !done) {
        const ulong began = nanoseconds();
        do { done = barrier_is_past(address, parity); } while (!done && nanoseconds() - began < 2000000000ul);
    }
    return done;
}
#define BARRIER_WAIT(address, parity, patient) barrier_wait(address, parity, patient)
// What this work-item wrote to shared memory, copies of 16 bytes included, is seen by wgmma after the next barrier.
#define PUBLISH_TO_WGMMA() PTX volatile("fence.proxy.async.shared::cta;" ::: "memory")

// What matrix/values.cl has in plain C.
#define VALUES_IN_PTX 1
// Compilers were seen to make four loads of one whose words are used apart.
static inline uint4 load_words4(__global const void *from) {
    uint4 words;
    PTX volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
                 : "l"(from));
    return words;
}
// What no kernel of the same launch writes: it may be read in any order.
static inline float4 load_constants4(__global const float *from) {
    float4 v;
    PTX("ld.global.nc.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "l"(from));
    return v;
}
static inline uint pack_halves(float low, float high) {
    uint pair;
    PTX("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}
static inline float2 unpack_halves(uint pair) {
    float low, high;
    PTX("{ .reg .f16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h; }" : "=f"(low), "=f"(high) : "r"(pair));
    return (float2)(low, high);
}

// 2 to the power of x, and 1 / x: one instruction, relative error 2^-22, zeros and infinities as they should be.
static inline float power2(float x) {
    float y;
    PTX("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
static inline float reciprocal(float x) {
    float y;
    PTX("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#else

#define SHARED_PARAMETER
#define SHARED_MEMORY(bytes) \
    __local uint4 shared_memory[(bytes) / 16]; \
    __local uint warp_memory[WARPS * 192]
#define SHARED_ADDRESS 0u
#define SHARED_BYTES ((__local uchar *)shared_memory)
// Six words to a lane.
#define WARP_WORDS (warp_memory + get_local_id(1) * 192)

// Copies are done at once: a slot that is filled while it is still read is found so. One that is read too early is not.
#define COPY16(to, from, count) emulated_copy(SHARED_BYTES + (to), (__global const ushort *)(from), count)
#define COPY_COMMIT()
#define COPY_WAIT(pending)
static inline void emulated_copy(__local uchar *to, __global const ushort *from, uint count) {
    for (uint i = 0; i < 8; i++) { ((__local ushort *)to)[i] = 2 * i < count ? from[i] : 0; }
}

// Work-items go in lock step with barriers of the work-group between them: what is waited for is there.
#define BARRIER_INIT(address, arrivals)
#define BULK_COPY(to, from, count, barrier_address) \
    for (uint piece = 0; piece < (count) / 16; piece++) { \
        *(__local uint4 *)(SHARED_BYTES + (to) + piece * 16) = ((__global const uint4 *)(from))[piece]; \
    }
#define BARRIER_WAIT(address, parity, patient) (patient)
#define PUBLISH_TO_WGMMA()

#define LOAD_MATRICES(r, address) emulated_load(SHARED_BYTES, WARP_WORDS, address, 0, r)
#define LOAD_MATRICES_TRANSPOSED(r, address) emulated_load(SHARED_BYTES, WARP_WORDS, address, 1, r)
static inline void emulated_load(
    __local const uchar *memory, __local uint *words, uint address, uint transposed, uint *r) {
    const uint lane = get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    words[lane] = address;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint i = 0; i < 4; i++) {
        const uint row = transposed ? lane % 4 * 2 : lane / 4, column = transposed ? lane / 4 : lane % 4 * 2;
        const uint low = *(__local const ushort *)(memory + words[i * 8 + row] + column * 2);
        const uint high = transposed ? *(__local const ushort *)(memory + words[i * 8 + row + 1] + column * 2)
                                     : *(__local const ushort *)(memory + words[i * 8 + row] + column * 2 + 2);
        r[i] = low | high << 16;
    }
}

// Emulated, all warps of the work-group reach the instructions together: they choose alike.
#define IF_WARP(condition) if ((condition) || true)
#define ONE_OF_TWO(condition, for_group) if (for_group)
#define OR_ELSE else

#define MULTIPLY(c, a, b0, b1) emulated_multiply(WARP_WORDS, c, a, b0, b1)
static inline void emulated_multiply(__local uint *words, float *c, const uint *a, uint b0, uint b1) {
    const uint lane = get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint i = 0; i < 4; i++) { words[lane * 6 + i] = a[i]; }
    words[lane * 6 + 4] = b0;
    words[lane * 6 + 5] = b1;
    barrier(CLK_LOCAL_MEM_FENCE);
    __local const half *halves = (__local const half *)words;
    for (uint k = 0; k < 16; k++) {
        // Inputs 2t and 2t + 1 are in lane t of the row's four, those from 8 on in the second register of each kind.
        const uint from_row = (lane / 4 * 4 + k % 8 / 2) * 12 + k / 8 * 4 + k % 2;
        for (uint e = 0; e < 2; e++) {
            const uint from_column = ((lane % 4 * 2 + e) * 4 + k % 8 / 2) * 12 + 8 + k / 8 * 2 + k % 2;
            const float b = vload_half(from_column, halves);
            c[e] += vload_half(from_row, halves) * b;
            c[2 + e] += vload_half(from_row + 2, halves) * b;
        }
    }
}

#define EXCHANGE(v, mask) emulated_exchange(WARP_WORDS, v, mask)
static inline float emulated_exchange(__local uint *words, float v, uint mask) {
    barrier(CLK_LOCAL_MEM_FENCE);
    words[get_local_id(0)] = as_uint(v);
    barrier(CLK_LOCAL_MEM_FENCE);
    return as_float(words[get_local_id(0) ^ mask]);
}

#endif

// Makes a variable its sum over the lanes of the warp, in every lane.
#define SUM_OVER_WARP(v) \
    v += EXCHANGE(v, 1); \
    v += EXCHANGE(v, 2); \
    v += EXCHANGE(v, 4); \
    v += EXCHANGE(v, 8); \
    v += EXCHANGE(v, 16)
