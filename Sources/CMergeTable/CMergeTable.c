#include "CMergeTable.h"

static const uint8_t merges[] = {
#embed "Data/merges.bin"
};

const uint8_t *clipMergeTable(void) { return merges; }

size_t clipMergeTableByteCount(void) { return sizeof merges; }
