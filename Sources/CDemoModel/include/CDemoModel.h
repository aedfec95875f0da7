// The built-in demonstration model, as bytes in the binary: a CLIPModel folder in Hugging Face form. MODEL_CARD.md says
// what it knows.
#pragma once

#include <stddef.h>

/// model.safetensors
const void *clip_demo_weights_bytes(void);
size_t clip_demo_weights_count(void);

/// config.json
const void *clip_demo_config_bytes(void);
size_t clip_demo_config_count(void);

/// preprocessor_config.json
const void *clip_demo_preprocessor_bytes(void);
size_t clip_demo_preprocessor_count(void);
