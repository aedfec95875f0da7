// Stored numbers into floats, and stored rows into panels.
#pragma once

#if HAS_HALVES
INLINE vf from_half(vh h) { return widened((const uint16_t *)&h); }

/// Halves in place of n floats; false where one of them is no half.
static bool narrow(const float *x, long n, uint16_t *y) {
    vi differing = (vi)0;
    long i = 0;
    for (; i < n; i += VW) {
        vf value = i + VW <= n ? load(x + i) : load_part(x + i, n - i);
        vs halves = __builtin_convertvector(value, vs);
        differing |= bits_of(__builtin_convertvector(halves, vf)) ^ bits_of(value);
        __builtin_memcpy(y + i, &halves, sizeof(uint16_t) * (size_t)ccpu_min(VW, n - i));
    }
    int32_t any = 0;
    for (int e = 0; e < VW; e++) any |= differing[e];
    return any == 0;
}
#else
/// VW consecutive halves as floats, exactly: the exponent moves by 112, which a multiplication does for subnormal
/// numbers too; infinities and NaNs get their exponent back.
INLINE vf from_half(vh h) {
    vi bits = __builtin_convertvector(h, vi);
    vi magnitude = (bits & 0x7fff) << 13;
    vf value = float_of(magnitude) * splat(0x1p112f);
    vi special = (bits & 0x7c00) == 0x7c00;
    vi result = bits_of(value) | (special & 0x7f800000);
    return float_of(result | ((bits & 0x8000) << 16));
}
#endif

INLINE vf load_stored(const void *p, ccpu_element_type type, long i) {
    switch (type) {
        case CCPU_FLOAT32: return *(const vf_bytes *)((const char *)p + 4 * i);
        case CCPU_FLOAT16: return from_half(*(const vh_unaligned *)((const char *)p + 2 * i));
        case CCPU_BFLOAT16: {
            vi bits = __builtin_convertvector(*(const vh_unaligned *)((const char *)p + 2 * i), vi);
            return float_of(bits << 16);
        }
        case CCPU_FLOAT64: return __builtin_convertvector(*(const vd_bytes *)((const char *)p + 8 * i), vf);
    }
}

/// n < VW elements from i on, zeros after them.
INLINE vf load_stored_part(const void *p, ccpu_element_type type, long i, long n) {
    char copy[8 * VW] = {0};
    __builtin_memcpy(copy, (const char *)p + ccpu_element_bytes[type] * i, (size_t)(ccpu_element_bytes[type] * n));
    return load_stored(copy, type, 0);
}

static void convert(const void *x, ccpu_element_type type, long n, float *y) {
    long i = 0;
    for (; i + VW <= n; i += VW) store(y + i, load_stored(x, type, i));
    if (i < n) store_part(y + i, load_stored_part(x, type, i, n - i), n - i);
}

/// Transposes VW vectors: each round interleaves the halves.
INLINE void transpose(vf *rows) {
#pragma clang loop unroll(full)
    for (int round = 1; round < VW; round *= 2) {
        vf mixed[VW];
#pragma clang loop unroll(full)
        for (int i = 0; i < VW / 2; i++) {
            mixed[2 * i] = INTERLEAVE_LOW(rows[i], rows[i + VW / 2]);
            mixed[2 * i + 1] = INTERLEAVE_HIGH(rows[i], rows[i + VW / 2]);
        }
#pragma clang loop unroll(full)
        for (int i = 0; i < VW; i++) rows[i] = mixed[i];
    }
}

INLINE void pack_type(
    const void *const *source, const ccpu_element_type type, long step, long columns, long inputs, long width,
    float *panel)
{
    for (long first = 0; first < columns; first += VW) {
        long live = columns - first;
        if (live > VW) live = VW;
        if (step != 1) {
            // Transposed storage: neighbouring columns are neighbours in memory (a stacked part may end in between).
            for (long k = 0; k < inputs; k++) {
                vf line = splat(0);
                for (long c = 0; c < live; c++) {
                    float value;
                    store_part(&value, load_stored_part(source[first + c], type, k * step, 1), 1);
                    line[c] = value;
                }
                store(panel + k * width + first, line);
            }
            continue;
        }
        vf rows[VW];
        long k = 0;
        for (; k + VW <= inputs; k += VW) {
#pragma clang loop unroll(full)
            for (int c = 0; c < VW; c++) rows[c] = c < live ? load_stored(source[first + c], type, k) : splat(0);
            transpose(rows);
#pragma clang loop unroll(full)
            for (int i = 0; i < VW; i++) store(panel + (k + i) * width + first, rows[i]);
        }
        if (k < inputs) {
            for (int c = 0; c < VW; c++)
                rows[c] = c < live ? load_stored_part(source[first + c], type, k, inputs - k) : splat(0);
            transpose(rows);
            for (int i = 0; i < inputs - k; i++) store(panel + (k + i) * width + first, rows[i]);
        }
    }
}

static void pack(
    const void *const *source, ccpu_element_type type, long step, long columns, long inputs, long width, float *panel)
{
    switch (type) {
        case CCPU_FLOAT32: pack_type(source, CCPU_FLOAT32, step, columns, inputs, width, panel); break;
        case CCPU_FLOAT16: pack_type(source, CCPU_FLOAT16, step, columns, inputs, width, panel); break;
        case CCPU_BFLOAT16: pack_type(source, CCPU_BFLOAT16, step, columns, inputs, width, panel); break;
        case CCPU_FLOAT64: pack_type(source, CCPU_FLOAT64, step, columns, inputs, width, panel); break;
    }
}
