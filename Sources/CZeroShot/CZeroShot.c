// Data/ embedded by C23's #embed, so that ImageNet's labels and templates need no file.
#include "CZeroShot.h"

static const uint8_t imageNetLabels[] = {
#embed "Data/imagenet-labels.txt"
};

static const uint8_t openAITemplates[] = {
#embed "Data/openai-templates.txt"
};

static const uint8_t simpleTemplates[] = {
#embed "Data/simple-templates.txt"
};

ZeroShotLines zeroShotImageNetLabels(void) { return (ZeroShotLines){imageNetLabels, sizeof imageNetLabels}; }

ZeroShotLines zeroShotOpenAITemplates(void) { return (ZeroShotLines){openAITemplates, sizeof openAITemplates}; }

ZeroShotLines zeroShotSimpleTemplates(void) { return (ZeroShotLines){simpleTemplates, sizeof simpleTemplates}; }
