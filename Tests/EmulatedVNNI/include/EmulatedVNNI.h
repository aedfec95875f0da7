// int8 products for AVX-VNNI, with its instruction emulated: for machines that have AVX2 and no more.
#pragma once

#include <stdbool.h>

/// Whether this processor can run them so.
bool vnni_can_be_emulated(void);
/// Whether products of random rows `[rows, inputs]` and weights `[outputs, inputs]` have the bits of the plain kernels.
bool vnni_has_the_plain_bits(long rows, long inputs, long outputs);
