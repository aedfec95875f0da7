// Halves to floats and back, many at a time: weights are loaded through it. To the nearest, ties to even.
#ifndef CHALVES_H
#define CHALVES_H

#include <stddef.h>
#include <stdint.h>

// `from` need not be aligned.
void ch_floats(float *to, const void *from, size_t count);
void ch_halves(uint16_t *to, const float *from, size_t count);

#endif
