// The table of known weights, as bytes in the binary.
#include "CHub.h"

static const uint8_t table[] = {
#embed "Data/models.json"
};

const uint8_t *chub_model_table(void) { return table; }

size_t chub_model_table_count(void) { return sizeof table; }
