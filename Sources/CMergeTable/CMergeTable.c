#include "CMergeTable.h"
