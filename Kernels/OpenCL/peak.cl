// Multiply-adds in registers and nothing else: what no product in floats can exceed on this device. For the figures of
// `clip-gpu devices --selftest`.
//
// Eight chains of vectors, so that the latency of one hides behind the others.

#define CHAINS 8

__kernel void peak(__global float *results, uint rounds, float factor, float term) {
    vector sums[CHAINS];
    UNROLL_LOOP
    for (int i = 0; i < CHAINS; i++) { sums[i] = (vector)((float)(get_global_id(0) + i)); }
    for (uint round = 0; round < rounds; round++) {
        UNROLL_LOOP
        for (int i = 0; i < CHAINS; i++) { sums[i] = mad(sums[i], (vector)(factor), (vector)(term)); }
    }
    vector sum = sums[0];
    UNROLL_LOOP
    for (int i = 1; i < CHAINS; i++) { sum += sums[i]; }
    results[get_global_id(0)] = SUM_VECTOR(sum);
}
