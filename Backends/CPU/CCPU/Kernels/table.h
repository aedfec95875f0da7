// The table of one instruction set. Expects VW, HAS_FMA, HAS_HALVES, TILE_ROWS, TILE_VECTORS, INTERLEAVE_LOW, INTERLEAVE_HIGH, TABLE,
// TABLE_NAME and INT8_TABLE.
#pragma once

#include "vector.h"

#include "pack.h"
#include "product.h"
#include "rows.h"
#include "winograd.h"

#include "int8.h"

const ccpu_kernels TABLE = {
    .name = TABLE_NAME,
    .vector = VW,
    .tile_rows = TILE_ROWS,
    .panel = TILE_VECTORS * VW,
    .pack = pack,
    .product = product,
#if HAS_HALVES
    .narrow = narrow,
    .product_of_halves = product_of_halves,
#endif
    .epilogue = epilogue,
    .norm = norm,
    .exponentials = exponentials,
    .softmax_columns = softmax_columns,
    .scaled = scaled,
    .sum = sum_rows,
    .winograd_inputs = winograd_inputs,
    .winograd_results = winograd_results,
    .normalize = normalize,
    .convert = convert,
    .multiply_adds = multiply_adds,
    .multiply_adds_per_step = 12 * VW,
};
