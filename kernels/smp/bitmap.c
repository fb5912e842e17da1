/* bitmap.c: the search for a set bit. */
#include "atomic.h"

/* `word` must not be 0, for which the result of BSF is undefined. TZCNT needs a newer CPU. */
static u32 lowest_bit(u64 word) {
    u64 bit;
    asm("bsf %1, %0" : "=r"(bit) : "r"(word) : "cc");
    return (u32)bit;
}

int bitmap_find_from(const u64 *map, u32 bits, u32 from) {
    u32 words = BITMAP_WORDS(bits);
    for (u32 i = 0; i <= words; i++) { /* the first word twice: at first only its bits from `from` */
        u32 index = (from / 64 + i) % words;
        u64 word = __atomic_load_n(&map[index], __ATOMIC_RELAXED);
        if (i == 0)
            word &= ~0ull << (from % 64);
        if (word)
            return (int)(index * 64 + lowest_bit(word));
    }
    return -1;
}
