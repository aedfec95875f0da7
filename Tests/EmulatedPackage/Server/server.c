// The emulated process: makes the calls of CCPU that the tests' process sends (calls.h), until the socket closes.
#include "calls.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int get_facts(ccpu_facts *facts) {
    const char *problem = ccpu_openblas_open();
    facts->best = ccpu_best_instruction_set();
    facts->threads = ccpu_available_threads();
    facts->memory = ccpu_physical_memory();
    snprintf(facts->processor, sizeof facts->processor, "%s", ccpu_processor_name());
    snprintf(facts->openblas_problem, sizeof facts->openblas_problem, "%s", problem ? problem : "");
    snprintf(facts->openblas_description, sizeof facts->openblas_description, "%s", ccpu_openblas_description());
    for (int set = 0; set < 8; set++)
        snprintf(facts->sets[set], sizeof facts->sets[set], "%s", ccpu_instruction_set_name((ccpu_instruction_set)set));
    return 0;
}

int main(void) {
    void *shared = mmap(
        (void *)SHARED_ADDRESS, (size_t)SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, MEMORY_FILE, 0);
    if (shared != (void *)SHARED_ADDRESS) {
        perror("server: no shared memory at its address");
        return 1;
    }
    call_number number;
    while (read(CALLS_FILE, &number, sizeof number) == sizeof number) {
        switch (number) {
#define A(type, name) , message->name
#define CALL(result_type, function, type, name, ...)                                                                   \
    case function##_number: {                                                                                          \
        function##_message *message = shared;                                                                          \
        message->result = function(message->name __VA_ARGS__);                                                         \
        break;                                                                                                         \
    }
#define PROCEDURE(function, type, name, ...)                                                                           \
    case function##_number: {                                                                                          \
        function##_message *message = shared;                                                                          \
        function(message->name __VA_ARGS__);                                                                           \
        break;                                                                                                         \
    }
            ALL_CALLS
        }
        if (write(CALLS_FILE, &number, sizeof number) != sizeof number) return 1;
    }
    return 0;
}
