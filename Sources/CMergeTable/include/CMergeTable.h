// The byte-pair merges of CLIP's tokenizer, as bytes in the binary. Data/ORIGIN.md says where they come from,
// tools/make_merge_table.py how they are laid out.
#pragma once

#include <stddef.h>
#include <stdint.h>

/// The merges in order of rank: two little-endian 16-bit token ids each.
const uint8_t *clipMergeTable(void);

/// Size of the table in bytes.
size_t clipMergeTableByteCount(void);
