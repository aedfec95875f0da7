// The labels and the templates by which CLIP models are measured on ImageNet, as bytes in the binary.
// Data/ORIGIN.md says where they are from.
#pragma once

#include <stddef.h>
#include <stdint.h>

/// UTF-8, one entry a line.
typedef struct {
    const uint8_t *_Nonnull bytes;
    size_t count;
} ZeroShotLines;

/// The names of the 1000 classes.
ZeroShotLines zeroShotImageNetLabels(void);
/// The 80 templates of OpenAI's.
ZeroShotLines zeroShotOpenAITemplates(void);
/// The seven of them that do nearly as well.
ZeroShotLines zeroShotSimpleTemplates(void);
