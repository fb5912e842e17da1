/* options.c: unknown words are ignored, because loaders add words of their own. */
#include "options.h"
#include "string.h"

struct options options;

static void take(const char *word, size_t length) {
#define IS(text) (length == sizeof(text) - 1 && bytes_equal(word, text, length))
    if (IS("json"))
        options.json = true;
    else if (IS("quick"))
        options.quick = true;
    else if (IS("loop"))
        options.loop = true;
    else if (IS("fault=silent-ap"))
        options.fault = FAULT_SILENT_AP;
    else if (IS("fault=triple"))
        options.fault = FAULT_TRIPLE;
    else if (IS("fault=exception"))
        options.fault = FAULT_EXCEPTION;
    else if (IS("fpu=on"))
        options.fpu = FPU_ON;
    else if (IS("fpu=off"))
        options.fpu = FPU_OFF;
    else if (IS("fpu=auto"))
        options.fpu = FPU_AUTO;
#undef IS
}

void options_read(const char *at) {
    for (;;) {
        while (*at == ' ' || *at == '\t' || *at == '\n')
            at++;
        const char *word = at;
        while (*at && *at != ' ' && *at != '\t' && *at != '\n')
            at++;
        if (at == word)
            return;
        take(word, (size_t)(at - word));
    }
}
