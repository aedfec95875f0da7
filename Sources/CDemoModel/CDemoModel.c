// Model/ embedded by C23's #embed, so that the first command needs neither a file nor a network.
#include "CDemoModel.h"

// On a page of their own, as a mapped file would lie.
_Alignas(4096) static const unsigned char weights[] = {
#embed "Model/model.safetensors"
};

static const unsigned char config[] = {
#embed "Model/config.json"
};

static const unsigned char preprocessor[] = {
#embed "Model/preprocessor_config.json"
};

const void *clip_demo_weights_bytes(void) { return weights; }

size_t clip_demo_weights_count(void) { return sizeof weights; }

const void *clip_demo_config_bytes(void) { return config; }

size_t clip_demo_config_count(void) { return sizeof config; }

const void *clip_demo_preprocessor_bytes(void) { return preprocessor; }

size_t clip_demo_preprocessor_count(void) { return sizeof preprocessor; }
